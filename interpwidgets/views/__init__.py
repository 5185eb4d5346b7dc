"""What is shown: widgets over arrays and sources. Nothing here knows a model, or needs torch."""

from interpwidgets.views.attention import AttentionView, Edge
from interpwidgets.views.dashboard import Dashboard
from interpwidgets.views.linking import Link, link
from interpwidgets.views.page import Html, save_page
from interpwidgets.views.view import View

__all__ = ["AttentionView", "Dashboard", "Edge", "Html", "Link", "View", "link", "save_page"]

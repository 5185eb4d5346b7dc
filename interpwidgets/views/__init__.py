"""What is shown: widgets over arrays and sources. Nothing here knows a model, or needs torch."""

from interpwidgets.views.attention import AttentionView, Edge
from interpwidgets.views.page import save_page
from interpwidgets.views.view import View

__all__ = ["AttentionView", "Edge", "View", "save_page"]

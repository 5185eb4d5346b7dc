"""Views that move together: the same layer, head, position … in all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import traitlets

from interpwidgets.errors import InputError
from interpwidgets.views.view import ROLES, View

__all__ = ["Link", "link", "links_between"]


class Link:
    """Traits of views that are kept equal, until `unlink()`."""

    def __init__(self, groups: Sequence[Sequence[tuple[View, str]]]) -> None:
        self.groups = [list(group) for group in groups]
        for group in self.groups:
            for view, trait in group:
                view.observe(self._changed, trait)
            self._spread(group, *group[0])
        for view, _ in [member for group in self.groups for member in group]:
            view.links.append(self)

    def unlink(self) -> None:
        """Let each view go its own way again."""
        for view, trait in [member for group in self.groups for member in group]:
            view.unobserve(self._changed, trait)
            view.links.remove(self)
        self.groups = []

    def _changed(self, change: Any) -> None:
        for group in self.groups:
            if any(view is change["owner"] and trait == change["name"] for view, trait in group):
                self._spread(group, change["owner"], change["name"])

    def _spread(self, group: Iterable[tuple[View, str]], source: View, trait: str) -> None:
        value = getattr(source, trait)
        for view, other in group:
            if view is not source and not (trait == other == "feature" and _of_other_layers(source, view)):
                with suppress(traitlets.TraitError):  # a view that has no such layer stays where it is
                    setattr(view, other, value)

    def __repr__(self) -> str:
        shared = ", ".join(" = ".join(f"{type(view).__name__}.{trait}" for view, trait in g) for g in self.groups)
        return f"Link({shared or 'nothing'})"


def _of_other_layers(*views: View) -> bool:
    """Whether the features of views are of different layers: the same number is then another feature."""
    return len({view.feature_layer for view in views if getattr(view, "feature_layer", None) is not None}) > 1


def link(*views: View, on: Sequence[str | Sequence[str]] | None = None) -> Link:
    """Keep views together: what one selects is selected in the others.

    >>> iw.link(attention, lens)                                # layer, head, position: whatever both have
    >>> iw.link(attention, lens, on=["layer"])                  # only that
    >>> iw.link(training, attention, on=[("step", "prompt")])   # traits of different names, one for each view

    `on` names what to share, of `prompt`, `layer`, `head`, `position` (the query of an `AttentionView`), `token`,
    `neuron`, `feature`, `step`, or any trait that the views have in common. The first view's selection is taken over.
    A value that another view does not have leaves that view where it is; so does a feature of another layer, between a
    `CircuitView` and the `FeatureView` of a store. In a page saved with `save_page` or
    `Dashboard.save_html` the views stay linked without Python.

    Raises:
        InputError: fewer than two views, something that is no view, or nothing that two of them share.
    """
    if len(views) < 2 or not all(isinstance(view, View) for view in views):
        raise InputError(f"A link needs two views or more; got {', '.join(type(view).__name__ for view in views)}.")
    groups = []
    for role in ROLES if on is None else on:
        traits = [view.roles.get(role, role) if isinstance(role, str) else None for view in views]
        if not isinstance(role, str):
            if len(role) != len(views):
                raise InputError(f"{role!r} names a trait for each of the {len(views)} views, in their order.")
            traits = list(role)
        members = [(view, trait) for view, trait in zip(views, traits, strict=True) if trait in view.settings()]
        if len(members) > 1:
            groups.append(members)
        elif on is not None:
            raise InputError(f"These views do not share {role!r}: {_shared(views)}")
    if not groups:
        raise InputError(f"These views have nothing to share: {_shared(views)}")
    return Link(groups)


def links_between(views: Sequence[View]) -> list[list[list[Any]]]:
    """The links among those views, by their places: a group [place, trait] for each trait shared."""
    found = []
    for each in {id(link): link for view in views for link in view.links}.values():
        for group in each.groups:
            inside = [[views.index(view), trait] for view, trait in group if view in views]
            if len(inside) > 1:
                found.append(inside)
    return found


def _shared(views: Sequence[View]) -> str:
    return "; ".join(f"{type(view).__name__} has {', '.join(view.roles) or 'nothing'}" for view in views) + "."

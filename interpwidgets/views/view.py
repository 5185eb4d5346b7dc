"""`View`, the base of every widget: traits are its state, tiles are its data.

What travels, and when. A trait is small, flows both ways and can be observed. A tile is an array the page asks for
by key; `View.tile` answers, data or an error, always. The tiles of the first screen go along with the opening state,
so that nothing waits for a second round trip; a page without a kernel is the same view with more tiles in it.

The page asks `{"tiles": [key, …]}`, each key a JSON object as a string; Python answers `{"version": …, "tiles":
[{"key": …, …meta} or {"key": …, "error": …}]}` and one buffer for each tile without an error, in order. A view that
is given other data has another version, and no tile of the last one counts.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import anywidget
import traitlets

from interpwidgets.errors import InputError, InterpError
from interpwidgets.frames import frame
from interpwidgets.views.tile import Tile

if TYPE_CHECKING:
    from typing import Self

    from interpwidgets.views.drawing import Drawing
    from interpwidgets.views.linking import Link

__all__ = ["ROLES", "View", "key_of"]

STATIC = Path(__file__).parent.parent / "static"
ROLES = ("prompt", "layer", "head", "position", "token", "neuron", "feature", "step")  # what linked views share
_CACHE_BYTES = 32 << 20
_ONE_STEP = 0.4  # seconds: changes closer than this are undone together
Packed = tuple[dict[str, Any], bytes]


def key_of(**key: Any) -> str:
    """A tile's name on the wire: JSON without spaces, members in the order given (the page writes it the same way)."""
    return json.dumps(key, separators=(",", ":"), ensure_ascii=False)


class View(anywidget.AnyWidget):
    """A picture of one thing, and the state of that picture.

    A subclass names its page (`class AttentionView(View, view="attention")`), declares its traits, and answers `tile`.
    A notebook may ask for tiles while a cell runs, from another thread: `tile` reads what is frozen, changes nothing.
    """

    title = traitlets.Unicode().tag(sync=True)

    _css = STATIC / "style.css"
    _opening = traitlets.List(traitlets.Dict()).tag(sync=True)  # [{key, meta, data}]: the tiles of the first screen
    _live = traitlets.Bool(True).tag(sync=True)  # False in a stand-alone page
    _version = traitlets.Int(0).tag(sync=True)  # of the data

    _roles: ClassVar[dict[str, str]] = {}  # traits that play one of ROLES under another name
    _page: ClassVar[str]

    def __init_subclass__(cls, view: str | None = None, **kwargs: Any) -> None:
        if view:
            cls._page = view
            cls._esm = STATIC / f"{view}.js"
            if not cls._esm.exists():
                raise ImportError(
                    f"{cls._esm} is missing: this checkout has no built JavaScript. Run `npm ci && npm run build`, or "
                    "install a wheel."
                )
        super().__init_subclass__(**kwargs)

    def __init__(self, settings: Mapping[str, Any] | None = None, /, **defaults: Any) -> None:
        """Open with what the reader set, and elsewhere with what this view of these data starts with."""
        traits = {**defaults, **(settings or {})}
        known = self.settings()
        if unknown := [name for name in traits if name not in known and not name.startswith("_") and name != "layout"]:
            raise TypeError(f"{type(self).__name__} has no setting {unknown[0]!r}. It has: {', '.join(known)}.")
        self._cache: OrderedDict[str, Packed] = OrderedDict()
        self._lock = threading.Lock()
        self.links: list[Link] = []  # that this view is part of
        self._past: list[dict[str, Any]] = []
        self._future: list[dict[str, Any]] = []
        self._changed_at = float("-inf")
        super().__init__(**traits)
        self.on_msg(self._receive)
        self._now = self._opened = self._settable()
        self._initial = {name: self.traits()[name].default() for name in self._now} | defaults
        self.observe(self._remember, list(self._now))

    @classmethod
    def settings(cls) -> list[str]:
        """The names of this view's public traits."""
        plumbing = anywidget.AnyWidget.class_trait_names()
        return sorted(name for name in cls.class_trait_names() if name not in plumbing and not name.startswith("_"))

    @property
    def roles(self) -> dict[str, str]:
        """Which trait plays which of ROLES when views are linked."""
        settings = self.settings()
        return {role: role for role in ROLES if role in settings} | self._roles

    def tile(self, **key: Any) -> Tile:
        """The tile that `key` names."""
        raise NotImplementedError(f"{type(self).__name__} has no tiles")

    # State -----------------------------------------------------------------------------------------------------------

    def _settable(self) -> dict[str, Any]:
        """The settings that a reader changes, and their values."""
        traits = self.traits()
        return {name: getattr(self, name) for name in self.settings() if not traits[name].read_only}

    @property
    def touched(self) -> list[str]:
        """The settings that are no longer as the view opened."""
        return [name for name, value in self._settable().items() if value != self._opened[name]]

    def state(self) -> str:
        """What is on screen, as a line of text that opens it again: `AttentionView?layer=1&head=3`."""
        differs = {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in self._settable().items()
            if value != self._initial[name]
        }
        return f"{type(self).__name__}?{urlencode(differs)}"

    def restore(self, state: str) -> None:
        """Show what was on screen when `state()` was taken, of the data that this view has.

        Raises:
            InputError: the state is of another view, or is none.
            TraitError: it names what this data does not have.
        """
        with self.hold_trait_notifications():
            for name, value in {**self._initial, **self._read_state(state)}.items():
                setattr(self, name, value)

    @classmethod
    def from_state(cls, state: str, *data: Any, **more: Any) -> Self:
        """The view of that data as it was when `state()` was taken; arguments as for the view itself.

        Raises:
            InputError: the state is of another view, or is none.
        """
        return cls(*data, **{**cls._read_state(state), **more})

    @classmethod
    def _read_state(cls, state: str) -> dict[str, Any]:
        name, _, settings = str(state).partition("?")
        if name != cls.__name__:
            raise InputError(f"This is no state of a {cls.__name__}: {state!r:.80}. Take one with view.state().")
        try:
            found = {key: json.loads(value) for key, value in parse_qsl(settings, strict_parsing=bool(settings))}
        except ValueError as error:
            raise InputError(
                f"This state cannot be read ({error}): {state!r:.80}. Take one with view.state()."
            ) from None
        if unknown := [key for key in found if key not in cls.settings()]:
            raise InputError(f"A {cls.__name__} has no setting {unknown[0]!r}. It has: {', '.join(cls.settings())}.")
        return found

    def undo(self) -> bool:
        """Take back the last change of what is selected or shown; False if there was none."""
        return self._step(self._past, self._future)

    def redo(self) -> bool:
        """Make again the change that was last taken back; False if there was none."""
        return self._step(self._future, self._past)

    def _step(self, come: list[dict[str, Any]], go: list[dict[str, Any]]) -> bool:
        if not come:
            return False
        state, self._changed_at = come.pop(), float("-inf")
        go.append(self._now)
        self._now = state
        with self.hold_trait_notifications():
            for name, value in state.items():
                setattr(self, name, value)
        return True

    def _remember(self, _: Any) -> None:
        now = self._settable()
        if now == self._now:
            return
        before, self._changed_at = self._changed_at, time.monotonic()
        if self._changed_at - before > _ONE_STEP:
            self._past.append(self._now)
            del self._past[:-100]
        self._future.clear()
        self._now = now

    # Data ------------------------------------------------------------------------------------------------------------

    def renew(self, keys: Iterable[str] = ()) -> None:
        """The data is another: forget what was packed, here and in the page, and open with those tiles."""
        with self._lock:
            self._cache.clear()
        with self.hold_sync():
            self._version += 1
            self.open_with(keys)

    def picture(self) -> Drawing:
        """What the view shows now, as a still."""
        raise NotImplementedError

    def describe(self) -> str:
        """What the view shows now, in a sentence: the alternative text of its picture."""
        return repr(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """What the view shows now, as a few rows of text: headings and cells."""
        return [], []

    def to_pandas(self) -> Any:
        """What the view shows now, as a DataFrame: of a view that does not say better, the rows of its table.

        Raises:
            ImportError: pandas is not there.
        """
        headings, rows = self.table()
        return frame({heading: _read([row[at] for row in rows]) for at, heading in enumerate(headings)})

    def stored_keys(self) -> Iterable[str]:
        """Keys of the tiles a page without a kernel wants, the most important first."""
        return ()

    def packed(self, key: str) -> Packed:
        """The tile that `key` names, ready to travel; a small cache answers for the latest ones."""
        with self._lock:
            version = self._version
            if found := self._cache.get(key):
                self._cache.move_to_end(key)
                return found
        tile = self.tile(**json.loads(key)).pack()
        with self._lock:
            if version == self._version:
                self._cache[key] = tile
            while sum(len(data) for _, data in self._cache.values()) > _CACHE_BYTES and len(self._cache) > 1:
                self._cache.popitem(last=False)
        return tile

    def open_with(self, keys: Iterable[str]) -> None:
        """Let those tiles travel with the view itself."""
        self._opening = [self._entry(key) for key in keys]

    def _entry(self, key: str) -> dict[str, Any]:
        meta, data = self.packed(key)
        return {"key": key, "meta": meta, "data": data}

    def _receive(self, _: View, content: Mapping[str, Any], __: list[memoryview]) -> None:
        if "undo" in content:
            (self.undo if content["undo"] else self.redo)()
        else:
            self._answer(content)

    def _answer(self, content: Mapping[str, Any]) -> None:
        version = self._version
        answers: list[dict[str, Any]] = []
        buffers: list[bytes] = []
        keys = content.get("tiles")
        for key in keys if isinstance(keys, list) else ():
            try:
                meta, data = self.packed(key)
            except Exception as error:  # noqa: BLE001, PERF203  the page shows it; the notebook would lose it
                ours = isinstance(error, InterpError)
                answers.append({"key": key, "error": str(error) if ours else f"{type(error).__name__}: {error}"})
            else:
                answers.append({"key": key, **meta})
                buffers.append(data)
        self.send({"tiles": answers, "version": version}, buffers)

    def script(self) -> tuple[str, str]:
        """The name and the text of the page's script."""
        return self._page, str(self._esm)

    def page_state(self, max_mb: float) -> dict[str, Any]:
        """Everything a page without a kernel needs: traits, and as many tiles as fit in `max_mb`."""
        state = {name: getattr(self, name) for name in self.settings()}
        entries: list[dict[str, Any]] = []
        left = max_mb * 1e6 * 3 / 4  # base64 takes four bytes for three
        seen: set[str] = set()
        for key in self.stored_keys():
            if key in seen:
                continue
            seen.add(key)
            try:
                entry = self._entry(key)
            except InterpError:  # what cannot be had is not stored, and the page says so
                continue
            left -= len(entry["data"])
            if left < 0 and entries:
                break
            entries.append({**entry, "data": b64encode(entry["data"]).decode()})
        return {**state, "_opening": entries, "_live": False}

    def save_html(self, path: str | Path, max_mb: float = 10) -> Path:
        """Write the view as one HTML file that needs no kernel and no network, and is still interactive.

        Tiles are stored up to `max_mb` megabytes, what is on screen first; the page says where it holds no more.
        """
        from interpwidgets.views.page import save_page

        return save_page(path, getattr(self, "title", "") or repr(self), [self], max_mb=max_mb)

    def save_png(self, path: str | Path) -> Path:
        """Write a still of the view in pixels."""
        path = Path(path)
        path.write_bytes(self.picture().png())
        return path

    def save_svg(self, path: str | Path) -> Path:
        """Write a still of the view in lines and text that stay sharp at any size."""
        path = Path(path)
        path.write_text(self.picture().svg(self.describe()), encoding="utf-8")
        return path

    def still(self) -> str:
        """The view as HTML without scripts: what a notebook shows where no widget may run."""
        source = f"data:image/png;base64,{b64encode(self.picture().png()).decode()}"
        described = escape(self.describe(), quote=True)
        headings, rows = self.table()
        head = "".join(f"<th>{escape(text)}</th>" for text in headings)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
        return (
            f'<img src="{source}" alt="{described}" style="max-width:100%">'
            f"<details><summary>{escape(repr(self))}: as text</summary><p>{described}</p>{table}</details>"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"  # no address: notebooks are compared

    def __str__(self) -> str:
        """The view in a terminal: its name, and the rows of its table."""
        headings, rows = self.table()
        if not rows:
            return repr(self)
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [headings, *rows]
        ]
        return "\n".join([repr(self), *lines])

    def __rich__(self) -> Any:
        """The same with colours and lines, for those who print with rich."""
        from rich.table import Table

        headings, rows = self.table()
        table = Table(*headings, title=repr(self), title_justify="left")
        for row in rows:
            table.add_row(*row)
        return table

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self.still()}, metadata


def _read(cells: list[str]) -> list[str] | list[float]:
    """Numbers, where every cell is one."""
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return cells

"""`View`, the base of every widget: traits are its state, tiles are its data.

What travels, and when. A trait is small, flows both ways and can be observed. A tile is an array the page asks for
by key; `View.tile` answers, data or an error, always. The tiles of the first screen go along with the opening state,
so that nothing waits for a second round trip; a page without a kernel is the same view with more tiles in it.

The page asks `{"tiles": [key, …]}`, each key a JSON object as a string; Python answers `{"tiles": [{"key": …, …meta}
or {"key": …, "error": …}]}` and one buffer for each tile without an error, in order.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from interpwidgets.errors import InterpError
from interpwidgets.views.tile import Tile

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["View", "key_of"]

STATIC = Path(__file__).parent.parent / "static"
_CACHE_BYTES = 32 << 20
Packed = tuple[dict[str, Any], bytes]


def key_of(**key: Any) -> str:
    """A tile's name on the wire: JSON without spaces, members in the order given (the page writes it the same way)."""
    return json.dumps(key, separators=(",", ":"), ensure_ascii=False)


class View(anywidget.AnyWidget):
    """A picture of one thing, and the state of that picture.

    A subclass names its page (`class AttentionView(View, view="attention")`), declares its traits, and answers `tile`.
    A notebook may ask for tiles while a cell runs, from another thread: `tile` reads what is frozen, changes nothing.
    """

    _css = STATIC / "style.css"
    _opening = traitlets.List(traitlets.Dict()).tag(sync=True)  # [{key, meta, data}]: the tiles of the first screen
    _live = traitlets.Bool(True).tag(sync=True)  # False in a stand-alone page

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

    def __init__(self, **traits: Any) -> None:
        known = self.settings()
        if unknown := [name for name in traits if name not in known and not name.startswith("_") and name != "layout"]:
            raise TypeError(f"{type(self).__name__} has no setting {unknown[0]!r}. It has: {', '.join(known)}.")
        self._cache: OrderedDict[str, Packed] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__(**traits)
        self.on_msg(self._answer)

    @classmethod
    def settings(cls) -> list[str]:
        """The names of this view's public traits."""
        plumbing = anywidget.AnyWidget.class_trait_names()
        return sorted(name for name in cls.class_trait_names() if name not in plumbing and not name.startswith("_"))

    def tile(self, **key: Any) -> Tile:
        """The tile that `key` names."""
        raise NotImplementedError(f"{type(self).__name__} has no tiles")

    def picture(self) -> Image:
        """What the view shows now, as a still."""
        raise NotImplementedError

    def describe(self) -> str:
        """What the view shows now, in a sentence: the alternative text of its picture."""
        return repr(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """What the view shows now, as a few rows of text: headings and cells."""
        return [], []

    def stored_keys(self) -> Iterable[str]:
        """Keys of the tiles a page without a kernel wants, the most important first."""
        return ()

    def packed(self, key: str) -> Packed:
        """The tile that `key` names, ready to travel; a small cache answers for the latest ones."""
        with self._lock:
            if found := self._cache.get(key):
                self._cache.move_to_end(key)
                return found
        tile = self.tile(**json.loads(key)).pack()
        with self._lock:
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

    def _answer(self, _: View, content: Mapping[str, Any], __: list[memoryview]) -> None:
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
        self.send({"tiles": answers}, buffers)

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
            entry = self._entry(key)
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
        """Write a still of the view."""
        path = Path(path)
        path.write_bytes(self._png())
        return path

    def _png(self) -> bytes:
        buffer = BytesIO()
        # A palette is a third of the bytes, and these pictures have few colours.
        self.picture().quantize(256, method=2).save(buffer, "png")
        return buffer.getvalue()

    def still(self) -> str:
        """The view as HTML without scripts: what a notebook shows where no widget may run."""
        source = f"data:image/png;base64,{b64encode(self._png()).decode()}"
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

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self.still()}, metadata

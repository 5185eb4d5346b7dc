"""The gallery of the docs: a picture of every view, the code that makes it, what to look for, and where it is from.

    PYTHONPATH=tests python -m lab.gallery

`make gallery` runs this. Each page is a script in docs/gallery: its docstring holds the title, what to look for and the
source; its last line is the view.
"""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from lab.browser import ROOT, chromium, new_page
from lab.notebook import TIMEOUT

FOLDER = ROOT / "docs/gallery"
IMAGES = ROOT / "docs/images/gallery"
ORDER = (
    "attention", "tokens", "top_tokens", "logit_lens", "residual", "patching", "circuit", "neurons", "geometry",
    "feature", "training", "prompt",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One page of the gallery."""

    name: str
    title: str
    look: str
    source: str
    code: str

    @classmethod
    def read(cls, path: Path) -> Entry:
        """A page, from its script."""
        text = path.read_text("utf-8")
        docstring = ast.get_docstring(ast.parse(text)) or ""
        title, look, source = (" ".join(part.split()) for part in docstring.split("\n\n"))
        assert look.startswith("What to look for: "), f"{path}: the second paragraph says what to look for"
        assert source.startswith("Source: "), f"{path}: the third paragraph names the source"
        code = text.split('"""', 2)[2].strip()
        return cls(path.stem, title, look.partition(": ")[2], source.partition(": ")[2], code)

    def view(self) -> Any:
        """The view that the code makes."""
        names: dict[str, Any] = {"__name__": f"gallery_{self.name}"}
        exec(compile(self.code, f"docs/gallery/{self.name}.py", "exec"), names)
        return names["view"]

    def markdown(self) -> str:
        """The page in words."""
        about = f"{type_name(self.name)}: {self.title[0].lower()}{self.title[1:]}"
        return (
            f"## {about}\n\n![{self.title}](../images/gallery/{self.name}.png)\n\n**What to look for.** {self.look}\n\n"
            f"```python\n{self.code}\n```\n\n*{self.source}*\n"
        )


def type_name(name: str) -> str:
    """The class of a view, from the name of its files."""
    return "".join(part.capitalize() for part in name.split("_")) + "View"


def entries() -> list[Entry]:
    """All pages, in the order of the gallery."""
    found = {path.stem: path for path in FOLDER.glob("*.py")}
    assert set(found) == set(ORDER), f"the gallery has {sorted(found)}; its order names {sorted(ORDER)}"
    return [Entry.read(found[name]) for name in ORDER]


def open_page(page: Page, address: str) -> None:
    """Open a saved view and wait until it is drawn."""
    page.goto(address)
    page.locator(".interpwidgets section").first.wait_for(timeout=TIMEOUT)
    page.wait_for_function("() => !document.querySelector('.iw-busy')", timeout=TIMEOUT)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))")


def pictures(browser: Browser, out: Path) -> Iterator[Path]:
    """A picture of each view, as its page shows it."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries():
            address = entry.view().save_html(Path(folder) / f"{entry.name}.html").as_uri()
            with new_page(browser, width=1100, offline=True) as (page, _):
                open_page(page, address)
                path = out / f"{entry.name}.png"
                page.locator(".iw-page").screenshot(path=path)
                yield path


def write() -> Path:
    """The text of the gallery."""
    head = (
        "# Gallery\n\nEvery view, on a model that ships with the package: run any of these in a notebook, offline. "
        "Each picture was made by the code below it, and is a hypothesis: most views have a way to test it in them.\n"
    )
    contents = "\n".join(f"- [{type_name(entry.name)}](#{_anchor(entry)})" for entry in entries())
    path = FOLDER / "README.md"
    path.write_text("\n".join([head, contents, "", *(entry.markdown() for entry in entries())]), encoding="utf-8")
    return path


def _anchor(entry: Entry) -> str:
    heading = f"{type_name(entry.name)} {entry.title}".lower()
    return "".join(c for c in heading.replace(" ", "-") if c.isalnum() or c == "-")


def main() -> None:
    """Write the text and the pictures."""
    print(write())
    with chromium() as browser:
        for path in pictures(browser, IMAGES):
            print(path)


if __name__ == "__main__":
    main()

"""The package as a whole: what it exports, what importing it costs, and which part may import which."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import interpwidgets as iw

PACKAGE = Path(iw.__file__).parent
# Imports go down: a module may import from its own floor and from those below.
FLOORS = [
    {"errors", "tokens", "stats", "frames", "circuit", "graph_json"},
    {"models"},
    {"intervene", "features", "autointerp"},
    {"views", "models.train"},  # recipes and cards of the model systems: their evidence is interventions
    {"cli", "__main__", "publish", "course", "circuitsvis"},
]
WITHOUT_TORCH = {"errors", "tokens", "stats", "frames", "circuit", "graph_json", "views", "circuitsvis"}


def floor(part: str) -> int:
    return next((level for level, parts in enumerate(FLOORS) if part in parts), -1)


def part_of(name: str) -> str:
    """The part of the house that a module, named from the package down, belongs to: the longest that has a floor."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and floor(f"{first}.{rest[0]}") >= 0 else first


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imports(path: Path) -> set[str]:
    """Full names of what a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which floor is meant"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    part = part_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    assert floor(part) >= 0, f"{part} has no floor yet: add it to FLOORS, after DESIGN"
    names = {name.removeprefix("interpwidgets.") for name in imports(path) if name.startswith("interpwidgets.")}
    ours = {part_of(name) for name in names} & set().union(*FLOORS)
    assert not {other for other in ours if floor(other) > floor(part)}
    if part in WITHOUT_TORCH:
        assert not {name for name in imports(path) if name.split(".")[0] in ("torch", "transformers")}
        assert "models" not in ours


def test_floors_test_would_notice(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f():\n    from interpwidgets.views import View\n    import torch.nn\n")
    assert imports(tmp_path / "bad.py") == {"interpwidgets.views.View", "torch.nn"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_no_torch() -> None:
    heavy = python(
        "import sys, interpwidgets; interpwidgets.Tokens; interpwidgets.InputError;"
        "print([m for m in ('torch', 'transformers', 'anywidget', 'matplotlib') if m in sys.modules])"
    )
    assert heavy == "[]"


def test_views_import_no_torch() -> None:
    assert python("import sys, interpwidgets as iw; iw.AttentionView; print('torch' in sys.modules)") == "False"


def test_without_torch_models_say_what_to_install() -> None:
    said = python(
        "import sys; sys.modules['torch'] = None\n"
        "import interpwidgets as iw\n"
        "iw.AttentionView\n"
        "try:\n    iw.load\nexcept ImportError as error:\n    print(error)"
    )
    assert 'pip install "interpwidgets[models]"' in said
    assert "torch" in said


def test_public_names_are_sorted_and_there() -> None:
    assert iw.__all__ == sorted(iw.__all__)
    assert set(iw.__all__) <= set(dir(iw))
    for name in iw.__all__:
        assert getattr(iw, name).__doc__, name


def test_the_lazy_table_names_what_the_modules_export() -> None:
    assert set(iw._HOME) == set(iw.__all__)
    for name, home in iw._HOME.items():
        assert name in importlib.import_module(f"interpwidgets.{home}").__all__


def test_parts_are_imported_when_named() -> None:
    said = python("import interpwidgets as iw; print(iw.models.shipped()); print(iw.views.AttentionView.__name__)")
    assert "induction-2l" in said
    assert said.endswith("AttentionView")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Attention'"):
        iw.Attention  # noqa: B018

"""The rooms of the package: each says what it holds, and imports run one way, as CONTRIBUTING's map says."""

import ast
import re
from pathlib import Path

import pytest

import surrodiff

PACKAGE = Path(surrodiff.__file__).parent
# A room's modules, as the map lists them; a row without a room belongs to the one above, in the first and last to none.
ROW = re.compile(r"^\| (?:`(\w+)`)? ?\| (`[^|]+`) \| [^|]+ \|$", re.MULTILINE)


def mapped(root: Path) -> list[tuple[str, list[str]]]:
    """(room, modules) of each row of the map, in its order; modules of no room have an empty one."""
    text = (root / "CONTRIBUTING.md").read_text().partition("## Map of the code")[2].partition("\n## ")[0]
    rows, room = [], ""
    for named, modules in ROW.findall(text):
        names = re.findall(r"`([\w.]+)`", modules)
        room = "" if names == ["cli"] else named or room
        rows.append((room, names))
    return rows


@pytest.fixture(scope="module")
def order(root) -> list[str]:
    """Rooms, and modules of none, from the top."""
    return list(dict.fromkeys(room or names[0] for room, names in mapped(root)))


def of(path: Path) -> str:
    """The room of a module, or the module's name where it has none."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_the_map_lists_every_module_and_nothing_else(root):
    listed = {f"{room}/{name}" if room else name for room, names in mapped(root) for name in names}
    there = {
        str(path.relative_to(PACKAGE)).removesuffix(".py")
        for pattern in ("*.py", "*/*.py", "*/*.yaml", "*/*.csv")
        for path in PACKAGE.glob(pattern)
        if path.name != "__init__.py"
    }
    assert listed == there


def test_every_room_says_what_it_holds(order):
    rooms = [name for name in order if (PACKAGE / name).is_dir()]
    assert len(rooms) > 10
    for room in rooms:
        assert len(ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or "") > 30, room


def imports(path: Path) -> set[str]:
    """The rooms that a module imports from, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "surrodiff":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("surrodiff."):
            rooms.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("surrodiff.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_no_room_below(order, path):
    assert all(order.index(room) <= order.index(of(path)) for room in imports(path)), imports(path)

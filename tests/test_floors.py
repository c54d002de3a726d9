"""A room imports only from floors below its own; see CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"errors"},
    {"machine"},
    {"util"},
    {"data", "triton"},
    {"repository", "types"},
    {"steps"},
    {"networks", "exporters", "containers", "deploy"},
    {"tasks", "launchers"},
    {"manifest", "check"},
    {"build", "training", "stores"},
    {"compare", "executors", "schemas", "lifecycle"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
CLIENT_FLOORS = [
    {"errors", "notify", "shown"},
    {"types", "processes", "signals", "files", "formats"},
    {"endpoint", "images", "shared_memory", "tasks", "drawn"},
    {"transports", "sizes", "metadata"},
    {"flows"},
    {"asks"},
    {"pictures", "classes", "texts"},
    {"client", "aio"},
    {"batch", "gateway", "moderation", "access_log", "monitoring", "tensor_files", "similar"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR = {
    package: {room: floor for floor, rooms in enumerate(floors) for room in rooms}
    for package, floors in {"builder": FLOORS, "client": CLIENT_FLOORS}.items()
}
FILES = sorted(ROOT.glob("builder/**/*.py")) + sorted(ROOT.glob("client/**/*.py"))


def room_of(path: Path) -> str:
    part = path.relative_to(ROOT).parts[1]
    return part.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    package, room = path.relative_to(ROOT).parts[0], room_of(path)
    other = "client" if package == "builder" else "builder"
    floors = FLOOR[package]
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != other, f"{path} imports {name}"
        if parts[0] == package and len(parts) > 1 and room != "__init__" and parts[1] in floors and parts[1] != room:
            assert floors[parts[1]] < floors[room], f"{path} imports {name}"


@pytest.mark.parametrize("package", FLOOR)
def test_every_room_has_a_floor(package: str) -> None:
    rooms = {room_of(path) for path in FILES if path.is_relative_to(ROOT / package)} - {"__init__", "runtimes"}
    assert rooms == set(FLOOR[package])


def test_the_page_shows_the_floors() -> None:
    table = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    shown = {int(floor): set(rooms.replace("`", "").split(", ")) for floor, rooms in table}
    assert shown == dict(enumerate(FLOORS))


def test_the_page_names_files_that_there_are() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)[`:]", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    places = (ROOT, ROOT / "builder", ROOT / "client")
    assert named
    assert not [name for name in sorted(named) if not any((place / name).exists() for place in places)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_runtimes_stand_alone(path: Path) -> None:
    if "runtimes" in path.parts:
        assert not [name for name in imports(path) if name.split(".")[0] in ("builder", "client")]

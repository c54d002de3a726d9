"""Which tests one process runs, and in which order, so that no process of `make test` idles at the end.

Tests that share what is made once a process stay together: a fixture of their module, the session's server, the one
Docker engine. Other files are cut into pieces. Docker's tests come first, since they mostly wait while the others
compute, and then the longest, by durations.json, which `make durations` renews. Tests that it does not know are taken
for short ones. Without xdist's --dist loadgroup all is as ever.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

DURATIONS = Path("tests/durations.json")  # from pytest's root
SHORT = 0.5  # seconds; shorter tests are not recorded
UNKNOWN = 0.1
PIECE = 30.0
ENGINE = "docker"
SHARED = ("server",)


def recorded(root: Path) -> dict[str, float]:
    """Seconds by node id, of setup, call and teardown."""
    if not (root / DURATIONS).exists():
        return {}
    files: dict[str, dict[str, float]] = json.loads((root / DURATIONS).read_text(encoding="utf-8"))
    return {f"{file}::{test}": seconds for file, tests in files.items() for test, seconds in tests.items()}


def groups(items: Iterable[pytest.Item], seconds: dict[str, float]) -> dict[str, list[pytest.Item]]:
    """By name; the group of Docker's engine first, then the longest."""
    found: dict[str, list[pytest.Item]] = {}
    for together in _held(items):
        held = _holds(together[0])
        if held:
            found[min(min(_holds(item)) for item in together)] = together
        else:
            found |= _pieces(together, seconds)
    return dict(sorted(found.items(), key=lambda group: (group[0] != ENGINE, -_length(group[1], seconds))))


def _length(items: Iterable[pytest.Item], seconds: dict[str, float]) -> float:
    return sum(seconds.get(item.nodeid, UNKNOWN) for item in items)


def _holds(item: pytest.Item) -> set[str]:
    """What the test shares with others, by name."""
    definitions: dict[str, Any] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    own = {name for name, found in definitions.items() if found[-1].scope != "function"}
    module = _file(item)
    shared = {name for name in SHARED if name in own}
    of_module = {f"{module}::{name}" for name in own if definitions[name][-1].baseid == module}
    engine = {ENGINE} if item.get_closest_marker("docker") else set()
    return engine | shared | of_module


def _held(items: Iterable[pytest.Item]) -> list[list[pytest.Item]]:
    """Tests that something holds together, directly or through a third; the others file by file."""
    sets: list[tuple[set[str], list[pytest.Item]]] = []
    for item in items:
        names, members = _holds(item) or {_file(item)}, [item]
        touched = [one for one in sets if one[0] & names]
        for one in touched:
            names, members = names | one[0], one[1] + members
            sets.remove(one)
        sets.append((names, members))
    return [members for _, members in sets]


def _pieces(items: list[pytest.Item], seconds: dict[str, float]) -> dict[str, list[pytest.Item]]:
    """A file's tests in pieces of about PIECE seconds."""
    found: dict[str, list[pytest.Item]] = defaultdict(list)
    passed = 0.0
    for item in items:
        found[f"{_file(item)} {int(passed / PIECE)}"].append(item)
        passed += seconds.get(item.nodeid, UNKNOWN)
    return dict(found)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


# --- what pytest and xdist ask ---


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"renew {DURATIONS} by this run")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(config.rootpath))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """In a worker, when all that is not asked for is gone: the order, and a file that tells the groups."""
    yield
    if place := getattr(config, "workerinput", {}).get("groups"):
        found = groups(items, recorded(config.rootpath))
        items[:] = [item for group in found.values() for item in group]
        names = {item.nodeid: name for name, group in found.items() for item in group}
        with tempfile.NamedTemporaryFile("w", dir=Path(place).parent, delete=False) as file:
            json.dump(names, file)
        Path(file.name).replace(place)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["groups"] = str(node.config._tmp_path_factory.getbasetemp() / "groups.json")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        """As loadfile, with groups in place of files."""

        groups: dict[str, str] | None = None

        def _split_scope(self, nodeid: str) -> str:
            if self.groups is None:
                path = Path(next(iter(self.nodes)).workerinput["groups"])
                if not path.exists():
                    raise pytest.UsageError("the processes collected nothing; pytest without -n tells why")
                self.groups = json.loads(path.read_text(encoding="utf-8"))
            return self.groups[nodeid]

    if config.getoption("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False  # the collection's order
    return Scheduling(config, log)


class _Recorder:
    """Adds up what each test took, and writes it when the run ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        write(self.root, self.seconds)


def write(root: Path, now: dict[str, float]) -> None:
    """What this run did not touch stays, as long as its file is there."""
    files: dict[str, dict[str, float]] = defaultdict(dict)
    for nodeid, seconds in sorted((recorded(root) | now).items()):
        file, _, test = nodeid.partition("::")
        if seconds >= SHORT and (root / file).exists():
            files[file][test] = round(seconds, 1)
    (root / DURATIONS).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")

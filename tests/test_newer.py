"""What is told of models that are published beside a server."""

from pathlib import Path

import pytest
from published import publish_model

from builder.launchers import newer


def told(repository: Path, served: newer.Published, count: int) -> list[str]:
    """So many lines of a watch that looks often."""
    import queue

    lines: queue.Queue[str] = queue.Queue()
    with newer.watched(repository, served, lines.put, "so: do that", seconds=0.01):
        return [lines.get(timeout=30) for _ in range(count)]


def test_what_is_published_is_what_clients_ask(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "b")
    publish_model(tmp_path / "r", "a")
    (tmp_path / "r" / "foreign").mkdir()
    (tmp_path / "r" / "foreign" / "config.pbtxt").write_bytes(b"\xff no config")
    publish_model(tmp_path / "r", "c", alone=True)
    publish_model(tmp_path / "r", "c", alone=True)
    assert newer.published(tmp_path / "r") == {"a": (1,), "b": (1,), "c": (2,)}
    assert newer.published(tmp_path / "nothing") == {}


@pytest.mark.parametrize(
    ("served", "line"),
    [
        ({"a": (3,)}, "published meanwhile: a 1 (served: 3)"),
        ({}, "published meanwhile: new: a"),
        ({"a": (1,), "z": (2,)}, "published meanwhile: gone: z"),
        ({f"m{number}": (1,) for number in range(7)}, "new: a, gone: m0, gone: m1, gone: m2, gone: m3 and 3 more"),
    ],
)
def test_differences_are_named(served: newer.Published, line: str, tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "a")
    (found,) = told(tmp_path / "r", served, 1)
    assert line in found
    assert found.endswith("; so: do that")


def test_nothing_is_told_of_what_is_served(tmp_path: Path) -> None:
    """Not even after a build that publishes the same again, until there is something else."""
    publish_model(tmp_path / "r", "a")
    (only,) = told_after(tmp_path / "r")
    assert only.startswith("published meanwhile: new: b")


def told_after(repository: Path) -> list[str]:
    import queue

    lines: queue.Queue[str] = queue.Queue()
    with newer.watched(repository, {"a": (1,)}, lines.put, "so: do that", seconds=0.01):
        config = repository / "a" / "config.pbtxt"
        again = repository.parent / "again"
        again.write_bytes(config.read_bytes() + b"\n")
        again.replace(config)  # as a build does, at once
        publish_model(repository, "b")
        found = [lines.get(timeout=30)]
    return [*found, *(lines.get_nowait() for _ in range(lines.qsize()))]


def test_what_a_rollout_brought_is_served(tmp_path: Path) -> None:
    """The server is asked, not what it served when it began."""
    import queue

    publish_model(tmp_path / "r", "a")
    lines: queue.Queue[str] = queue.Queue()
    there = {"a": (2,)}
    with newer.watched(tmp_path / "r", {"a": (3,)}, lines.put, "so", lambda name: there.get(name, ()), seconds=0.01):
        assert lines.get(timeout=30) == "published meanwhile: a 1 (served: 2); so"
        publish_model(tmp_path / "r", "a")  # what the server has by now
        publish_model(tmp_path / "r", "b")
        assert lines.get(timeout=30) == "published meanwhile: new: b; so"

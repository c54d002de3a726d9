"""Rollouts to real servers that are asked all the while."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from explicit_servers import Running, serving
from swapping import HANGS_S, MODEL, NETWORK, SABOTAGE, SOUND, asked, built, publish
from waiting import until

from builder.errors import RolloutError
from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.lifecycle.serving import serving as served
from builder.triton.connection import Access, connected

IMPATIENT = RolloutOptions(timeout=HANGS_S - 1)
PATIENT = RolloutOptions(timeout=60)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sound versions, built once."""
    return built(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def repository(versions: Path, tmp_path: Path) -> Path:
    """Of one's own, in which the first version is published."""
    shutil.copytree(versions, tmp_path / "repository")
    publish(tmp_path / "repository", 1)
    return tmp_path / "repository"


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Running]:
    with serving(repository, tmp_path) as running:
        yield running


def rolled(repository: Path, url: str, number: int, options: RolloutOptions = PATIENT) -> None:
    publish(repository, number)
    (result,) = roll_out(repository, [Access(url)], options)
    assert [(change.model, change.after) for change in result.changes] == [(MODEL, number)]


def swap(repository: Path, server: Running, swaps: int, sabotaged: int) -> None:
    """So many swaps, the sabotaged ones among them; after each, what serves is what should."""
    now, number = 1, 100
    bad = {round((place + 0.5) * swaps / sabotaged) for place in range(sabotaged)}
    for turn in range(swaps):
        url = (server.grpc, server.http)[turn % 2]
        if turn in bad:
            number += 1
            SABOTAGE[number % len(SABOTAGE)](repository, number, now)
            publish(repository, number)
            with pytest.raises(RolloutError, match=f"Of {MODEL}, {now} serves on"):
                roll_out(repository, [Access(url)], IMPATIENT)
        else:
            now = SOUND[now % len(SOUND)]
            rolled(repository, url, now)
        assert served(Access(url)) == {MODEL: now}
        until(lambda: connected(Access(server.grpc)).is_model_ready(NETWORK, now))


def test_no_request_fails_while_versions_are_swapped(repository: Path, server: Running) -> None:
    """It takes half a minute: eight swaps, one of each kind of sabotage among them, two seconds or three each."""
    with asked(repository, [server.grpc, server.http]) as load:
        swap(repository, server, 8, 4)
    assert load.failed == []
    assert load.wrong == []
    assert set(load.seen) == set(SOUND)

"""A repository is built again while it is served: what serves goes on, and says that there is something newer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rebuilding
from conftest import ANY_PORTS, build
from processes import started

from builder.launchers import LAUNCHERS, newer
from client import Client


@pytest.fixture
def folder() -> Iterator[Path]:
    with rebuilding.folder_for_all() as made:
        yield made


def test_builds_of_every_kind_beside_a_server_under_load(folder: Path) -> None:
    """Ten builds, no failed request, no wrong answer; and a server that starts afterwards serves the last build."""
    build(folder, rebuilding.FIRST)
    repository = folder / "repository"
    before = newer.published(repository)
    server = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    try:
        with rebuilding.asked({"embedded": server.endpoints}) as reports:
            rebuilding.build_all_kinds(folder, repository, reports)
        first = answer(server.endpoints.grpc)
    finally:
        server.stop()
    assert newer.published(repository) != before
    server = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    try:
        last = answer(server.endpoints.grpc)
    finally:
        server.stop()
    assert set(first) == {"cat", "dog", "other"}
    assert max(abs(first[label] - last[label]) for label in first) > 1000 * rebuilding.TOLERANCE


def answer(address: str) -> dict[str, float]:
    with Client(address) as client:
        return {one.label: one.probability for one in client.classify(rebuilding.PHOTO, "m")}


def test_serve_tells_that_something_newer_is_published(tmp_path: Path) -> None:
    build(tmp_path, "models:\n" + rebuilding.entry())
    repository = tmp_path / "repository"
    command = [sys.executable, "-m", "builder", "serve", "-r", str(repository), "--json"]
    ports = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    with started([*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ready = json.loads(process.stdout.readline())
        build(tmp_path, "models:\n" + rebuilding.entry(seed="1") + rebuilding.entry("another"))
        told = next(line for line in process.stderr if "new: another" in line)
        process.terminate()
        process.communicate(timeout=60)
    by_hand = f"build-repo rollout --url {ready['grpc']} -r {repository}, or start"
    assert f"m 2 (served: 1), new: another; to serve that: {by_hand}" in told

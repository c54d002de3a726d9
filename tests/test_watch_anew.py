"""Repositories that were made anew: the same number with other content is another version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import rebuilding
from conftest import build
from published import publish_model
from test_cli import build_repo
from test_watch import Rollouts, following, now, serve
from waiting import until

from builder.commands.servers import accesses
from builder.lifecycle.serving import Serving, compared


def test_the_same_number_is_looked_at_more_closely(tmp_path: Path) -> None:
    publish_model(tmp_path, "m")
    rollouts = Rollouts()
    rollouts.served["m"] = (1,)
    with following(tmp_path, rollouts, has=lambda *_: bool(rollouts.called)) as said:
        assert said.get(timeout=30) == "serving m 1 (was 1), 0.2 s"
        publish_model(tmp_path, "other")
        assert said.get(timeout=30) == "serving other 1, 0.2 s"
    assert rollouts.called == ["m", "other"]


def test_a_server_gets_what_was_made_anew(tmp_path: Path) -> None:
    """Two real builds and a real server, which tells the content of what it has; they take the time."""
    repository, other = tmp_path / "repository", tmp_path / "other"
    build(tmp_path, "models:\n" + rebuilding.entry())
    build(tmp_path, "models:\n" + rebuilding.entry(seed="1"), other)

    with serve(repository) as serving:
        (access,), before = accesses([serving.urls[0]]), now(serving.urls[0])
        assert compared(repository, access) == {"m": Serving(1, True)}
        table = build_repo("status", "-r", "other", "--url", access.url, cwd=tmp_path)
        assert "not as published, under the same number; rollout brings it" in table.stdout, table.stderr
        told = build_repo("status", "-r", "other", "--url", access.url, "--json", cwd=tmp_path)
        (server,) = json.loads(told.stdout)["servers"]
        assert (server["versions"], server["not_as_published"]) == ({"m": 1}, ["m"])
        repository.rename(tmp_path / "old")
        shutil.copytree(other, repository)
        serving.until_said("serving m 1 (was 1), ")
        until(lambda: now(serving.urls[1]) != before)
        assert compared(other, access) == {"m": Serving(1, True)}

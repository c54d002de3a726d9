"""A target of `build-repo deploy` is one file, and one line in TARGETS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from builder.cli import app
from builder.commands.deploy import TARGETS, add, deploy
from builder.commands.deploy.target import Deployment
from builder.errors import DeployError
from builder.triton.advisories import Judgement


def raft(repository: Path, output: Path, knots: Annotated[int, typer.Option("--knots", "-k", min=1)] = 2) -> Deployment:
    """Logs and ropes."""
    return Deployment({"raft.txt": f"{repository.name} {knots}\n"}, Judgement((), "leaks"), f"paddle {output}")


@pytest.fixture(autouse=True)
def _raft() -> Iterator[None]:
    """In the place of a file of somebody else's."""
    add("raft", raft)
    yield
    deploy.registered_commands.pop()


def build_repo(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["deploy", *map(str, arguments)])


def test_a_target_of_somebody_elses(tmp_path: Path) -> None:
    done = build_repo("raft", "-r", "logs", "-o", tmp_path, "-k", "3")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "raft.txt").read_text() == "logs 3\n"
    assert done.stdout == f"{tmp_path / 'raft.txt'}\n"
    assert done.stderr == f"build-repo: leaks\nbuild-repo: 1 written; then: paddle {tmp_path}\n"
    told = json.loads(build_repo("raft", "-r", "logs", "-o", tmp_path, "-k", "3", "--json").stdout)
    assert told == {
        "folder": str(tmp_path), "written": [], "unchanged": ["raft.txt"], "removed": [], "advisories": [],
    }  # fmt: skip


def test_what_was_edited_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    assert build_repo("raft", "-o", tmp_path).exit_code == 0
    (tmp_path / "raft.txt").write_text("by hand")
    refused = build_repo("raft", "-o", tmp_path)
    assert isinstance(refused.exception, DeployError)
    assert build_repo("raft", "-o", tmp_path, "--force").exit_code == 0
    assert (tmp_path / "raft.txt").read_text() == "model_repository 2\n"


def test_help_shows_its_own_options_among_those_of_all() -> None:
    text = " ".join(build_repo("raft", "--help").stdout.split())
    assert "Logs and ropes." in text
    assert "-k, --knots" in text
    assert "[default: deploy/raft]" in text
    assert build_repo("raft", "--knots", "0").exit_code == 2


def test_every_target_has_a_command() -> None:
    text = build_repo("--help").stdout
    assert [name for name in TARGETS if name not in text] == []

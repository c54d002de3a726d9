"""How a repository and its servers stand."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from plans import Project
from published import publish_model
from test_cli import build_repo

from builder.errors import ServerAway
from builder.lifecycle.serving import Serving
from builder.lifecycle.status import status
from builder.repository import lock
from builder.triton.connection import Access

AWAY = Access("localhost:1")


def ask(access: Access) -> dict[str, Serving]:
    """What the servers serve."""
    if access == AWAY:
        raise ServerAway("localhost:1 does not answer")
    return {"m": Serving(1, False)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Published twice, and beside it what the manifest does not have, which asks the same step."""
    found = Project(tmp_path).written()
    found.publish()
    found.publish()
    publish_model(
        found.repository, "gone", backend="onnxruntime", filename="model.onnx", files={"model.onnx": "x" * 9000}
    )
    return found


def test_models(project: Project) -> None:
    m, gone = status(project.repository, [project.entry()], (), ask).models
    assert (m.name, m.versions, m.published, str(m.plan), m.lock) == ("m", (1, 2), 2, "up to date", "intact")
    assert (gone.name, gone.versions, gone.published, gone.plan, gone.is_removed) == ("gone", (1,), 1, None, True)
    assert not m.is_removed
    assert not any(model.is_removed for model in status(project.repository, None, (), ask).models)


def test_servers(project: Project) -> None:
    there, away = status(project.repository, None, [Access("localhost:8001"), AWAY], ask).servers
    assert (there.url, there.versions, there.error) == ("localhost:8001", {"m": 1}, None)
    assert (away.url, away.versions, str(away.error)) == ("localhost:1", {}, "localhost:1 does not answer")


def test_silent_servers_are_waited_for_together(project: Project) -> None:
    """None answers before all were asked."""
    all_asked = threading.Barrier(3)

    def silent(access: Access) -> dict[str, Serving]:
        all_asked.wait(30)
        raise ServerAway(f"{access.url} does not answer")

    servers = status(project.repository, None, [Access(f"host:{port}") for port in (1, 2, 3)], silent).servers
    assert [str(server.error) for server in servers] == [f"host:{port} does not answer" for port in (1, 2, 3)]


def test_the_disk_counts_each_file_once(project: Project) -> None:
    before = status(project.repository, None, (), ask)
    files = [path for path in project.repository.rglob("*") if path.is_file() and path.parent != project.repository]
    assert before.bytes == sum(path.stat().st_blocks * 512 for path in files)
    step = sum(path.stat().st_blocks * 512 for path in (project.repository / "preprocess_1").rglob("*.*"))
    assert before.shared_bytes >= step > 0
    os.link(project.repository / "gone_onnxruntime/1/model.onnx", project.repository / "m/2/again.onnx")
    assert status(project.repository, None, (), ask).bytes == before.bytes


def test_damage_is_told(project: Project) -> None:
    artifact = project.repository / "gone_onnxruntime/1/model.onnx"
    artifact.write_text("y" * 9000)
    found = {model.name: model for model in status(project.repository, None, (), ask).models}
    assert found["gone"].lock == "intact"  # as far as is seen without reading it
    found = {model.name: model for model in status(project.repository, None, (), ask, is_checked=True).models}
    assert found["gone"].lock.startswith("gone_onnxruntime/1/model.onnx differs from what was recorded")
    assert found["m"].lock == "intact"
    artifact.unlink()
    found = {model.name: model for model in status(project.repository, None, (), ask).models}
    assert found["gone"].lock == "gone_onnxruntime/1/model.onnx is missing"
    (project.repository / lock.FILENAME).unlink()
    assert [model.lock for model in status(project.repository, None, (), ask).models] == ["not recorded"] * 2


def test_command(project: Project) -> None:
    finished = build_repo("status", "-r", "models", cwd=project.folder)
    assert finished.returncode == 0, finished.stderr
    lines = [line.split("  ")[0] for line in finished.stdout.splitlines()]
    assert lines == ["MODEL", "m", "gone", "(shared steps)", "total"]
    assert "removed; prune --removed takes it away" in finished.stdout
    answer: Any = json.loads(build_repo("status", "-r", "models", "--json", cwd=project.folder).stdout)
    assert [(model["name"], model["published"], model["removed"]) for model in answer["models"]] == [
        ("m", 2, False),
        ("gone", 1, True),
    ]
    plan = json.loads(build_repo("plan", "-r", "models", "--json", cwd=project.folder).stdout)
    assert plan == [{"name": "m", "state": "up to date", "version": 2, "changes": {}, "rolled_back": None}]

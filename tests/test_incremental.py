"""Only what changed is built: what counts as a change, what does not, and what is told of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import build, write_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import EDITS, Project
from published import publish_model
from rebuilding import entry
from test_cli import build_repo
from typer.testing import CliRunner

from builder.build.changes import CHANGED, NEW, UNRECORDED, UP_TO_DATE, plans, require_up_to_date
from builder.build.entry import resolve
from builder.build.inputs import Reading
from builder.cli import app
from builder.errors import OutdatedError, RepositoryError
from builder.executors.processes import build_in_processes
from builder.manifest.models import load_manifest
from builder.repository import lock
from builder.repository.merge import merge_repositories
from builder.util import hashing
from builder.util.remembered import Digests

QUICK = "torchscript"
"""The format that is made in the least time."""
OWN_WEIGHTS = """
import json, os
from pathlib import Path
import torch
from torch import nn

FOLDER = Path(__file__).parent

def make():
    sizes = json.loads((FOLDER / "sizes.json").read_text())
    (FOLDER / "seen.log").write_text("made")
    os.chdir("/")
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, sizes["classes"]))
    network.load_state_dict(torch.load(FOLDER / "own.pth"))
    return network
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Published as it is."""
    found = Project(tmp_path).written()
    found.publish()
    return found


def test_what_is_up_to_date_is_not_built_again(tmp_path: Path) -> None:
    """By the command line, in programs of their own as far as they need not import torch."""
    text = "models:\n" + entry("m", format=QUICK) + entry("n", format=QUICK, labels="l.txt", seed="4")
    (tmp_path / "l.txt").write_text("a\nb\nc\n")
    build(tmp_path, text, tmp_path / "model_repository")
    before = hashing.digests(tmp_path / "model_repository")
    again = build_repo(cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == "build-repo: up to date: m (1), n (1)\n"
    assert build_repo("--locked", cwd=tmp_path).returncode == 0
    assert build_repo("--rebuild", "--locked", cwd=tmp_path).returncode == 2
    (tmp_path / "l.txt").write_text("a\nb\nd\n")
    refused = build_repo("--locked", cwd=tmp_path)
    assert refused.returncode == OutdatedError.exit_code
    assert "1 of 2 entries would be built:\n  n: changed: labels\n    l.txt differs\n" in refused.stderr
    dry = json.loads(build_repo("--dry-run", "--json", cwd=tmp_path).stdout)
    assert [plan["state"] for plan in dry] == ["up to date", "changed: labels"]
    assert hashing.digests(tmp_path / "model_repository") == before


def test_what_changed_is_built_and_rebuild_insists(tmp_path: Path) -> None:
    build(tmp_path, "models:\n" + entry("m", format=QUICK) + entry("n", format=QUICK))
    write_manifest(tmp_path, "models:\n" + entry("m", format=QUICK) + entry("n", format=QUICK, seed="5"))
    built = told(tmp_path)
    assert [(model["name"], model["version"]) for model in built["built"]] == [("n", 2)]
    assert built["up_to_date"] == [{"name": "m", "version": 1}]
    assert [model["version"] for model in told(tmp_path, "--rebuild")["built"]] == [2, 3]
    assert told(tmp_path)["built"] == []


def told(folder: Path, *options: str) -> Any:
    """By the command, in this process, which has torch already."""
    command = ["build", "-m", str(folder / "models.yaml"), "-r", str(folder / "repository"), "--json", *options]
    return json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)


def test_nothing_heavy_is_imported_to_find_that_nothing_changed(repository: Path) -> None:
    """Of all formats and precisions that the shared repository has; the time itself is a benchmark's business."""
    arguments = [
        "x",
        "build",
        "--locked",
        "-m",
        str(repository.parent / "models.yaml"),
        "-r",
        str(repository),
        "--json",
    ]
    script = (
        f"import sys; sys.argv = {arguments!r}\nfrom builder.cli import main\n"
        "try: main()\nexcept SystemExit as end: print('ENDED', end.code)\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'onnx', 'onnxruntime', 'openvino', 'tritonclient', 'PIL', 'ray'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=240)
    assert finished.returncode == 0, finished.stderr
    answer, ended, heavy = finished.stdout.splitlines()
    assert ended == "ENDED 0", finished.stderr
    assert json.loads(answer)["built"] == []
    assert len(json.loads(answer)["up_to_date"]) > 3
    assert heavy == "HEAVY []"


@pytest.mark.parametrize("name", EDITS)
def test_a_change_is_named(name: str, project: Project) -> None:
    assert project.plan().state == UP_TO_DATE
    project.content[name] = EDITS[name][1]
    plan = project.written().plan()
    assert (plan.state, list(plan.changes), plan.version) == (CHANGED, [name], 1)
    assert len(plan.changes[name]) == 1
    project.publish()
    assert project.plan().state == UP_TO_DATE


@settings(max_examples=25, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.sampled_from([*EDITS, "touched", "note"]), st.integers(0, 1), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_it_is_changed_if_and_only_if_what_matters_differs(
    edits: list[tuple[str, int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = Project(tmp_path_factory.mktemp("edited")).written()
    project.publish()
    published = dict(project.content)
    for part, value, is_built in edits:
        if part in EDITS:
            project.content[part] = EDITS[part][value]
        plan = project.written(notes=f"{part} {value}").plan()
        changed = {part for part in published if published[part] != project.content[part]}
        assert set(plan.changes) == changed
        assert plan.state == (CHANGED if changed else UP_TO_DATE)
        if is_built and plan.is_due:
            project.publish()
            published = dict(project.content)


def test_files_that_code_opens_by_itself_count(tmp_path: Path) -> None:
    """Weights that a callable loads, which the manifest does not name. What it writes is not read."""
    import torch

    for classes, file in ((3, "own.pth"), (3, "other.pth")):
        torch.manual_seed(len(file))
        layers = torch.nn.Conv2d(3, 2, 3), torch.nn.Linear(2, classes)
        state = {f"{place}.{key}": value for place, layer in zip((0, 3), layers, strict=True)
                 for key, value in layer.state_dict().items()}  # fmt: skip
        torch.save(state, tmp_path / file)
    (tmp_path / "own.py").write_text(OWN_WEIGHTS)
    (tmp_path / "sizes.json").write_text('{"classes": 3}')
    text = "models:\n" + entry(network="own.py:make", weights="included", format=QUICK)
    build(tmp_path, text)
    entries, repository = resolve(load_manifest(tmp_path / "models.yaml")), tmp_path / "repository"
    version = lock.read(repository)["m"].versions["1"]
    assert version
    assert set(version.built_from["inputs"]["opened"]) == {"own.pth", "sizes.json"}
    assert [str(plan) for plan in plans(entries, repository)] == ["up to date"]
    shutil.copy(tmp_path / "other.pth", tmp_path / "own.pth")
    (plan,) = plans(entries, repository)
    assert plan.changes == {"opened": ["own.pth differs"]}


def test_processes_record_the_same(tmp_path: Path) -> None:
    """A process of its own imports torch once more."""
    text = "models:\n" + entry(format=QUICK)
    build(tmp_path, text, tmp_path / "one")
    entries = resolve(load_manifest(tmp_path / "models.yaml"))
    assert not build_in_processes(entries, tmp_path / "other", 1).failed
    recorded = [lock.read(tmp_path / name)["m"].versions["1"] for name in ("one", "other")]
    origins = [version.built_from["inputs"] for version in recorded if version]
    assert len(origins) == 2
    assert origins[0] == origins[1]


def test_it_is_the_same_elsewhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The project in another folder, on a machine of other cores."""
    moved = Project(tmp_path_factory.mktemp("moved") / "project")
    shutil.copytree(project.folder, moved.folder)
    assert moved.plan().state == UP_TO_DATE
    larger = replace(moved.entry(), cores=64)
    assert [plan.state for plan in plans([larger], moved.repository)] == [UP_TO_DATE]


def test_other_versions_of_the_tools_are_a_change(project: Project) -> None:
    edit_lock(project.repository, lambda version: version["built_from"]["inputs"]["tools"].update(torch="1.0"))
    plan = project.plan()
    assert list(plan.changes) == ["tools"]
    assert plan.changes["tools"][0].startswith("torch: 1.0 -> ")


def test_what_was_published_before_anything_was_recorded(tmp_path: Path) -> None:
    project = Project(tmp_path).written()
    publish_model(project.repository, backend="onnxruntime", filename="model.onnx")
    assert str(project.plan()) == f"changed: {UNRECORDED}"
    (project.repository / lock.FILENAME).unlink()
    assert str(project.plan()) == f"changed: {UNRECORDED}"
    with pytest.raises(OutdatedError, match=f"m: changed: {UNRECORDED}"):
        require_up_to_date([project.plan()])


def test_a_new_entry(project: Project) -> None:
    shutil.rmtree(project.repository / "m")
    assert project.plan().state == NEW


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("m/1/labels.txt", "m/1/labels.txt is missing"),
        ("m/1/config.pbtxt", "m/1/config.pbtxt is missing"),
        ("m_onnxruntime/1", "m_onnxruntime/1 is missing"),
        ("m_onnxruntime/config.pbtxt", "m_onnxruntime/config.pbtxt is missing"),
        ("preprocess_1", "preprocess_1/1 is missing"),
        ("m/config.pbtxt", "m/config.pbtxt is that of none of its versions"),
    ],
)
def test_what_is_partly_gone_is_built_again(lost: str, told: str, project: Project) -> None:
    path = project.repository / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    plan = project.plan()
    assert list(plan.changes) == ["repository"]
    assert told in plan.changes["repository"]


def test_a_lock_that_cannot_be_read_says_so(project: Project) -> None:
    (project.repository / lock.FILENAME).write_text("{")
    with pytest.raises(RepositoryError, match="cannot be read"):
        project.plan()


def test_a_rollback_is_not_undone_by_a_build(project: Project) -> None:
    """Nor is a version taken for rolled back that was never published, as after a kill."""
    project.content["weights"] = b"weights 2"
    project.written().publish()
    shutil.copy(project.repository / "m" / "1" / "config.pbtxt", project.repository / "m" / "config.pbtxt")
    plan = project.plan()
    assert (plan.state, plan.version, plan.taken_back) == (UP_TO_DATE, 1, 2)
    project.content["weights"] = b"weights 3"
    assert project.written().plan().state == CHANGED
    project.content["weights"] = b"weights 2"
    edit_lock(project.repository, lambda version: version.pop("published"), "2")
    assert project.written().plan().state == CHANGED


def test_merged_it_is_as_it_was_built(project: Project, tmp_path: Path) -> None:
    merge_repositories([project.repository], tmp_path / "merged")
    (plan,) = plans([project.entry()], tmp_path / "merged")
    assert plan.state == UP_TO_DATE


def test_what_cannot_be_read_is_left_to_the_build(project: Project) -> None:
    (project.folder / "labels.txt").unlink()
    assert list(project.plan().changes) == ["labels"]
    assert Reading(Digests()).of(project.entry())["weights"]["w.pth"]


def edit_lock(repository: Path, edit: Any, number: str = "1") -> None:
    path = repository / lock.FILENAME
    document = json.loads(path.read_text())
    edit(document["models"]["m"]["versions"][number])
    path.write_text(json.dumps(document))

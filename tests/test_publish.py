"""What a build that is killed, interrupted, repeated or raced leaves behind."""

import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import killing
import pytest
from conftest import build, write_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import publish_model
from wholeness import answers, served

from builder.errors import PublishError
from builder.repository import layout, lock, staging
from builder.repository.publish import Published
from builder.repository.served import read_repository, retired
from builder.triton import model_config

FIRST = "models:\n  m: {network: lenet, weights: random, labels: [a, b, c, d, e, f, g, h, i, j]}\n"
# Everything changes: weights, labels, limits, batch size and thereby warm-up; the recipe too.
SECOND = """models:
  m:
    network: lenet
    weights: random
    seed: 1
    max_batch_size: 4
    labels: [A, B, C, D, E, F, G, H, I, J]
    preprocess: {mean: [0.5], std: [0.5]}
"""
OTHER_FORMAT = "models:\n  m: {network: lenet, weights: random, seed: 1, format: onnx}\n"

# A whole build, which takes seconds, killed as `killing` kills what only publishes.
KILLED_BUILD = """
import sys
from pathlib import Path
from killing import kill_at
from builder.build.run import build_repository, resolve
from builder.manifest.models import load_manifest
folder, repository = Path(sys.argv[1]), Path(sys.argv[2])
entries = resolve(load_manifest(folder / "models.yaml"))
kill_at(int(sys.argv[3]), str(repository))
sys.exit(1 if build_repository(entries, repository).failed else 0)
"""
ONNX: dict[str, Any] = {
    "backend": "onnxruntime",
    "filename": "model.onnx",
    "files": {"model.onnx": "weights"},
    "device": "cpu",
}
OTHER: dict[str, Any] = {
    "backend": "openvino",
    "filename": "model.xml",
    "files": {"model.xml": "graph", "model.bin": "other weights"},
    "device": "cpu",
}
ALL: dict[str, Any] = ONNX | {
    "files": {"model.onnx": "new"}, "labels": ["Cat", "Dog"], "max_batch_size": 4, "step": "preprocess_2",
}  # fmt: skip
ALONE = ONNX | {"alone": True}
AROUND: dict[str, Any] = {"steps": ["preprocess_1", "scale_1", "postprocess_1"]}
# From what is served to what is published, and how many models are there in the end, with those of former versions.
# The step that another model asks, too, is not counted.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "all": (ONNX, ALL, 3),
    "larger batches": (ALL, ONNX, 3),
    "format": (ONNX, OTHER, 3),
    "interface": (ONNX, ONNX | {"classes": 3, "labels": None}, 3),
    "to no step": (ONNX, OTHER | {"steps": []}, 3),
    "no step, again": (ONNX | {"steps": []}, ALL | {"steps": []}, 2),
    "to two steps before and one behind": (ONNX, ALL | AROUND, 4),
    "from two steps before and one behind": (ONNX | AROUND, ALL, 5),
    "a step behind, again": (ONNX | AROUND, ALL | AROUND, 4),
    "to alone": (ONNX, ALL | {"alone": True}, 2),
    "many steps to alone": (OTHER | AROUND, ALONE, 4),
    "from alone": (ALONE, ALL, 3),
    "from alone to many steps": (ALONE, OTHER | AROUND, 4),
    "alone, again": (ALONE, ALL | {"alone": True}, 1),
    "alone, interface": (ALONE, OTHER | {"alone": True, "classes": 3, "labels": None, "max_batch_size": 0}, 1),
}


def killed_at_each_rename(repository: Path, changes: dict[str, Any]) -> list[str]:
    """What the model answered before, after each death, and in the end."""
    command = [sys.executable, killing.__file__, str(repository), json.dumps(changes)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout)
    return found


def killed(source: Path, repository: Path, fatal: int) -> bool:
    """Whether the build was killed at its `fatal`-th rename; False if it ended well before that."""
    command = [sys.executable, "-c", KILLED_BUILD, str(source), str(repository), str(fatal)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, cwd=Path(killing.__file__).parent
    )
    assert run.returncode in (0, -signal.SIGKILL), run.stderr
    return run.returncode != 0


def require_a_switch(states: list[str], repository: Path, models: int, unrecorded: Sequence[str] = ()) -> None:
    """Wholly the old model, then, from one rename on, wholly the new one; and nothing was left."""
    old, new = states[0], states[-1]
    switch = states.index(new)
    assert switch > 0
    assert set(states[:switch]) == {old}
    assert set(states[switch:]) == {new}
    # The run that was let through removed what all the killed ones had left.
    require_tidy(repository, unrecorded)
    assert len(served(repository)) == models


def require_tidy(repository: Path, unrecorded: Sequence[str] = ()) -> None:
    """Nothing is there that no version asks for, and the lock has what is there, but for what it never had."""
    models, recorded = served(repository), lock.read(repository)
    former = [model_config.read(copy) for copy in repository.glob("*/*/config.pbtxt")]
    asked = {call.model_name for model in (*models.values(), *former) for call in model.ensemble_scheduling.step}
    roles = {name: model.parameters[layout.ROLE].string_value for name, model in models.items()}
    assert {name for name, role in roles.items() if role not in layout.SERVED_ROLES} == asked
    assert set(recorded) == set(models) - set(unrecorded)
    assert not any(model.between for model in recorded.values())
    for name, model in recorded.items():
        assert set(model.versions) == {p.name for p in (repository / name).iterdir() if p.name.isdecimal()}
    assert [p.name for p in staging.staging_root(repository).iterdir()] == ["lock"]


@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_any_rename_it_serves_the_old_or_the_new(change: str, tmp_path: Path) -> None:
    before, after, models = CHANGES[change]
    publish_model(tmp_path / "r", **before)
    publish_model(tmp_path / "r", "other", **ONNX)  # shares a step with some
    publish_model(tmp_path / "r", "other", **ONNX | {"alone": True})
    states = killed_at_each_rename(tmp_path / "r", after)
    assert len(states) > 4
    require_a_switch(states, tmp_path / "r", models + len(("other", "other_onnxruntime", "preprocess_1")))


@pytest.mark.parametrize("form", ["ensemble", "alone"])
def test_repository_from_before_the_lock_is_killed_truthfully_too(form: str, tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ONNX, alone=form == "alone")
    (tmp_path / "r" / lock.FILENAME).unlink()
    former = {"ensemble": ["preprocess_1"], "alone": []}[form]
    require_a_switch(killed_at_each_rename(tmp_path / "r", ALL), tmp_path / "r", 3 + len(former), former)


@pytest.mark.parametrize("changes", [ONNX, ONNX | AROUND, ALONE], ids=["classic", "steps", "alone"])
def test_killed_first_publishes_nothing_that_answers(changes: dict[str, Any], tmp_path: Path) -> None:
    states = killed_at_each_rename(tmp_path / "r", changes)
    require_a_switch(states, tmp_path / "r", len(changes.get("steps", ["one"])) + 2 if "alone" not in changes else 1)
    assert states[0] == "nothing"


NAMES = ("a", "b", "a_onnxruntime")
PUBLISHED = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "kind": st.sampled_from([ONNX, OTHER]),
        "form": st.sampled_from(
            [
                {"alone": True},
                {"steps": []},
                {"steps": ["preprocess_1"]},
                {"steps": ["preprocess_1", "scale_1", "scale_2"]},
                {"steps": ["postprocess_1"]},
                {"steps": ["preprocess_2", "postprocess_1"]},
            ]
        ),
        "changes": st.fixed_dictionaries(
            {
                "classes": st.integers(1, 3),
                "max_batch_size": st.sampled_from([0, 4, 8]),
                "labels": st.sampled_from([None, ["cat"]]),
            }
        ),
    }
)


@settings(max_examples=15, deadline=None)
@given(st.lists(PUBLISHED, min_size=1, max_size=6))
def test_whatever_is_published_after_whatever_all_that_is_served_is_whole(sequence: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        repository, expected, refusals = Path(folder) / "r", dict[str, str](), list[str]()
        for one in sequence:
            before = tree(repository)
            try:
                publish_model(repository, one["name"], **one["kind"] | one["form"] | one["changes"])
            except PublishError as error:
                refusals.append(str(error))
                assert tree(repository) == before
                continue
            expected[one["name"]] = answers(repository, one["name"])
            require_tidy(repository)
            # The others answer as before, whatever they shared with this one.
            assert {name: answers(repository, name) for name in expected} == expected
            forms = {model.name: [part.name for part in model.steps] for model in read_repository(repository)}
            assert set(forms) == set(expected)
            assert sorted(forms[one["name"]]) == sorted(one["form"].get("steps", []))
        assert all("would be overwritten" in refusal for refusal in refusals)


@pytest.mark.slow
@pytest.mark.parametrize("text", [SECOND, OTHER_FORMAT], ids=["all", "format"])
def test_whole_build_killed_at_any_rename(text: str, tmp_path: Path) -> None:
    build(tmp_path, FIRST)
    write_manifest(tmp_path, text)
    repository, states = tmp_path / "repository", [answers(tmp_path / "repository")]
    for fatal in range(1, killing.MOST):
        was_killed = killed(tmp_path, repository, fatal)
        states.append(answers(repository))
        if not was_killed:
            break
    require_a_switch(states, repository, 3)


def test_killed_first_build_publishes_nothing_that_answers(tmp_path: Path) -> None:
    write_manifest(tmp_path, FIRST)
    repository = tmp_path / "repository"
    assert killed(tmp_path, repository, 4)
    assert answers(repository) == "nothing"
    assert not killed(tmp_path, repository, 100)
    assert len(served(repository)) == 3


def test_versions_count_up_and_stay(tmp_path: Path) -> None:
    repository = tmp_path / "r"
    assert [publish_model(repository, **form).version for form in (ONNX, ALL, ALONE, ALL, ONNX)] == [1, 2, 3, 4, 5]
    assert sorted(p.name for p in (repository / "m").iterdir() if p.name.isdecimal()) == ["1", "2", "3", "4", "5"]
    # The network of the ensembles before the third is kept beside another form.
    assert sorted(p.name for p in (repository / "m_onnxruntime").iterdir() if p.name.isdecimal()) == [
        "1",
        "2",
        "4",
        "5",
    ]
    assert list(served(repository)["m"].version_policy.specific.versions) == [5]
    kept = model_config.read(repository / "m" / "4" / "config.pbtxt")
    assert [s.model_version for s in kept.ensemble_scheduling.step][1] == 4


def test_other_interface_gets_another_network_model(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ONNX)
    assert publish_model(tmp_path / "r", **ONNX | {"classes": 3}).network == "m_onnxruntime_v2"
    assert set(served(tmp_path / "r")) == {"m", "m_onnxruntime", "m_onnxruntime_v2", "preprocess_1"}
    # The same interface again is another version of that, and the first one of the network's own name.
    assert publish_model(tmp_path / "r", **ONNX | {"classes": 3}).network == "m_onnxruntime_v2"
    assert publish_model(tmp_path / "r", **ONNX) == Published(4, "m_onnxruntime")


def test_a_network_that_does_not_batch_any_more_has_another_interface(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ONNX)
    assert publish_model(tmp_path / "r", **ONNX, max_batch_size=0).network == "m_onnxruntime_v2"


def test_other_interface_of_what_is_served_alone_keeps_its_name(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ALONE)
    published = publish_model(tmp_path / "r", **OTHER | {"alone": True, "classes": 3, "labels": None})
    assert (published.network, published.version) == ("m", 2)
    assert set(served(tmp_path / "r")) == {"m"}


def test_what_a_model_was_built_from_is_recorded_of_what_is_served(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "m", **ONNX, facts={"format": "onnx"})
    publish_model(tmp_path / "r", "n", **ALONE, facts={"format": "onnx"})
    versions = {name: model.versions["1"] for name, model in lock.read(tmp_path / "r").items()}
    recorded = {name: version.built_from for name, version in versions.items() if version and version.built_from}
    assert recorded == {name: {"facts": {"format": "onnx"}} for name in ("m", "n")}


def test_an_ensemble_that_somebody_wrote_around_a_model_goes_on(tmp_path: Path) -> None:
    """Of a model that is served by itself, which is there to be asked; not of one that is another's part."""
    publish_model(tmp_path / "r", **ALONE)
    by_hand = tmp_path / "r" / "by_hand"
    (by_hand / "1").mkdir(parents=True)
    call = 'step { model_name: "m" model_version: -1 }'
    (by_hand / "config.pbtxt").write_text(f'name: "by_hand" platform: "ensemble" ensemble_scheduling {{ {call} }}')
    assert publish_model(tmp_path / "r", **ALONE).version == 2
    with pytest.raises(PublishError, match=r"'m' is in .* the model of 'by_hand', and would be overwritten"):
        publish_model(tmp_path / "r", **ONNX)


def test_former_format_stays_and_is_not_served(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ONNX | AROUND)
    publish_model(tmp_path / "r", **OTHER)
    former = {"m_onnxruntime", "scale_1", "postprocess_1"}
    assert set(served(tmp_path / "r")) == {"m", "m_openvino", "preprocess_1"} | former
    assert retired(tmp_path / "r") == former
    (model,) = read_repository(tmp_path / "r")
    assert [part.name for part in model.parts] == ["m", "preprocess_1", "m_openvino"]


FOREIGN = [("m", ONNX), ("m_onnxruntime", ONNX), ("preprocess_1", ONNX), ("postprocess_1", ONNX | AROUND), ("m", ALONE)]


@pytest.mark.parametrize(("name", "changes"), FOREIGN)
def test_models_of_others_are_left_alone(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    foreign = tmp_path / "r" / name
    foreign.mkdir(parents=True)
    (foreign / "config.pbtxt").write_text(f'name: "{name}" backend: "python"')
    with pytest.raises(PublishError, match="was not made by build-repo"):
        publish_model(tmp_path / "r", **changes)
    assert [p.name for p in (tmp_path / "r").iterdir()] == [name]


def test_models_beside_ours_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "r" / "by_hand"
    other.mkdir(parents=True)
    (other / "config.pbtxt").write_text("this is not even a config {")
    (tmp_path / "r" / "README.md").write_text("a file")
    publish_model(tmp_path / "r", **ONNX)
    assert (other / "config.pbtxt").exists()


def _build(folder: Path, seed: int) -> None:
    publish_model(folder, **ONNX | {"files": {"model.onnx": f"weights {seed}"}})


def test_builds_at_the_same_time_get_versions_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    builds = [context.Process(target=_build, args=(tmp_path / "repository", i)) for i in range(3)]
    try:
        for process in builds:
            process.start()
        for process in builds:
            process.join(240)
    finally:
        for process in builds:
            process.kill()
    assert [process.exitcode for process in builds] == [0, 0, 0]
    served(tmp_path / "repository")
    versions = [p.name for p in (tmp_path / "repository" / "m").iterdir() if p.name.isdecimal()]
    assert sorted(versions) == ["1", "2", "3"]


def test_repository_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("a file")
    with pytest.raises(PublishError, match="cannot be made or written to: File exists"):
        publish_model(tmp_path / "repository")


def test_nothing_is_left_beside_the_repository(tmp_path: Path) -> None:
    publish_model(tmp_path / "repository")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".repository.staging", "repository"]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def served_by(repository: Path, name: str) -> list[str]:
    """The steps that the ensemble names, and what they are."""
    steps = model_config.read(repository / name / "config.pbtxt").ensemble_scheduling.step
    models = [model_config.read(repository / step.model_name / "config.pbtxt") for step in steps]
    return [model.parameters[layout.ROLE].string_value for model in models]


def test_no_model_is_published_over_anothers_network(tmp_path: Path) -> None:
    """Whichever of the two entries came first, and from whatever manifest."""
    publish_model(tmp_path / "r", "m")
    before = tree(tmp_path / "r")
    with pytest.raises(
        PublishError, match=r"'m_tensorrt' is in .* the network of 'm', .* the ensemble of 'm_tensorrt'"
    ):
        publish_model(tmp_path / "r", "m_tensorrt")
    with pytest.raises(PublishError, match=r"'preprocess_1' is in .* the preprocess of 'm'"):
        publish_model(tmp_path / "r", "preprocess_1", step="preprocess_2")
    assert tree(tmp_path / "r") == before
    with pytest.raises(PublishError, match=r"'m_tensorrt' is in .* the network of 'm', .* the model of 'm_tensorrt'"):
        publish_model(tmp_path / "r", "m_tensorrt", alone=True)
    with pytest.raises(PublishError, match=r"'preprocess_1' is in .* the preprocess of 'm'"):
        publish_model(tmp_path / "r", "preprocess_1", alone=True)
    assert tree(tmp_path / "r") == before
    publish_model(tmp_path / "r", "m")  # its own, again
    publish_model(tmp_path / "s", "m_tensorrt")
    with pytest.raises(PublishError, match=r"'m_tensorrt' is in .* the ensemble, .* the network of 'm'"):
        publish_model(tmp_path / "s", "m")
    publish_model(tmp_path / "t", "m_tensorrt", alone=True)
    with pytest.raises(PublishError, match=r"'m_tensorrt' is in .* the model, .* the network of 'm'"):
        publish_model(tmp_path / "t", "m")
    assert served_by(tmp_path / "r", "m") == ["preprocess", "network"]
    assert not (tmp_path / "s" / "m").exists()


def test_a_step_that_was_changed_is_not_asked(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ONNX | AROUND)
    (tmp_path / "r" / "scale_1" / "1" / "model.py").write_text("# another")
    before = tree(tmp_path / "r")
    with pytest.raises(PublishError, match="scale_1 is not the step that its name stands for"):
        publish_model(tmp_path / "r", "n", **ONNX, steps=["preprocess_1", "scale_1"])
    assert tree(tmp_path / "r") == before


def test_a_build_that_would_overwrite_computes_nothing(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "m", backend="torchscript")
    with pytest.raises(PublishError, match="the network of 'm'"):
        build(tmp_path, "models:\n  m_torchscript: {network: 'none.py:none', weights: random, "
              "preprocess: {channels: 3, resize: 40, crop: 32}}\n", tmp_path / "r")  # fmt: skip

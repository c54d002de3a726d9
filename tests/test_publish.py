"""What a build that is killed, interrupted, repeated or raced leaves behind."""

import hashlib
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import build, write_manifest
from published import publish_model

from builder.errors import PublishError
from builder.repository import layout, lock, staging
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
OTHER_SHAPE = "models:\n  m: {network: lenet, weights: random, arguments: {num_classes: 3}}\n"

# Both kill themselves at their n-th rename into the repository, as a power cut would; the
# interpreter's audit events tell when. The first runs a whole build, which takes seconds; the second
# publishes what another build made, which is the part that renames.
KILL = """
import os, signal, sys
def kill_at(fatal, repository):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event == "os.rename" and (repository + "/") in (str(arguments[1]) + "/"):
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
"""
KILLED_BUILD = (
    KILL
    + """
from pathlib import Path
from builder.build import build_repository, plan
from builder.manifest import load_manifest
folder, repository = Path(sys.argv[1]), Path(sys.argv[2])
plans = plan(load_manifest(folder / "models.yaml"))
kill_at(int(sys.argv[3]), str(repository))
sys.exit(1 if build_repository(plans, repository).failed else 0)
"""
)
KILLED_PUBLISH = (
    KILL
    + """
import shutil
from pathlib import Path
from builder import config, lock, publish
built, repository = Path(sys.argv[1]), Path(sys.argv[2])
ensemble = config.read(built / "m" / "config.pbtxt")
preprocess, network = (step.model_name for step in ensemble.ensemble_scheduling.step)
def stage(name, folder):
    shutil.copytree(built / name, folder)
    (folder / "1").rename(folder / "version")
    (folder / "config.pbtxt").unlink()
    return folder
def render(model, name, version):
    model.name = name
    model.version_policy.specific.versions[:] = [version]
    for output in model.output:
        output.label_filename = output.label_filename.replace("1/", f"{version}/")
    return model
def render_network(name, version):
    return config.to_text(render(config.read(built / network / "config.pbtxt"), name, version))
def render_ensemble(name, version):
    model = render(config.read(built / "m" / "config.pbtxt"), "m", version)
    model.ensemble_scheduling.step[1].model_name = name
    model.ensemble_scheduling.step[1].model_version = version
    return config.to_text(model)
with publish.staging(repository) as staged:
    shutil.copytree(built / preprocess, staged / "preprocess")
    stage(network, staged / "network")
    stage("m", staged / "ensemble")
    kill_at(int(sys.argv[3]), str(repository))
    publish.publish(
        repository,
        publish.StagedStep(preprocess, staged / "preprocess"),
        publish.StagedNetwork(network, staged / "network", render_network),
        publish.StagedEnsemble("m", staged / "ensemble", render_ensemble),
    )
"""
)


def served(repository: Path) -> dict[str, Any]:
    """What a server would make of the repository, checked as Triton checks it when it loads."""
    models = {d.name: model_config.read(d / "config.pbtxt") for d in repository.iterdir() if d.is_dir()}
    for name, model in models.items():
        versions = list(model.version_policy.specific.versions)
        assert model.name == name
        assert versions
        for version in versions:
            assert (repository / name / str(version)).is_dir()
            if model.default_model_filename:
                assert (repository / name / str(version) / model.default_model_filename).is_file()
        for warmup in model.model_warmup:
            for tensor in warmup.inputs.values():
                assert (repository / name / "warmup" / tensor.input_data_file).is_file()
        for output in model.output:
            assert not output.label_filename or (repository / name / output.label_filename).is_file()
        for step in model.ensemble_scheduling.step:
            called = models[step.model_name]
            assert step.model_version in called.version_policy.specific.versions
            assert called.max_batch_size >= model.max_batch_size
    return models


def answers(repository: Path, name: str = "m") -> str:
    """All that decides what the ensemble answers."""
    models = served(repository)
    assert lock.problems(repository) == []  # the lock is true at any moment
    if name not in models:
        return "nothing"
    steps = models[name].ensemble_scheduling.step
    network = next(s for s in steps if not s.model_name.startswith("preprocess"))
    model = models[network.model_name]
    artifact = repository / network.model_name / str(network.model_version) / model.default_model_filename
    labels = models[name].output[0].label_filename
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    preprocess = steps[0].model_name
    return json.dumps(
        [preprocess, models[name].max_batch_size, digest, labels and (repository / name / labels).read_text()]
    )


def killed(script: str, source: Path, repository: Path, fatal: int) -> bool:
    """Whether the run was killed at its `fatal`-th rename; False if it ended well before that."""
    arguments = [sys.executable, "-c", script, str(source), str(repository), str(fatal)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode in (0, -signal.SIGKILL), run.stderr
    return run.returncode != 0


def kill_at_each_rename(script: str, source: Path, repository: Path) -> None:
    states = [answers(repository)]
    for fatal in range(1, 30):
        was_killed = killed(script, source, repository, fatal)
        states.append(answers(repository))
        if not was_killed:
            break
    assert not was_killed
    assert fatal > 6
    # Wholly the old model, then, from the switch on, wholly the new one.
    old, new = states[0], states[-1]
    switch = states.index(new)
    assert set(states[:switch]) <= {old}
    assert set(states[switch:]) == {new}
    # The run that was let through removed what all the killed ones had left.
    assert len(served(repository)) == 3
    recorded = lock.read(repository)
    assert set(recorded) == set(served(repository))
    assert not any(model.between for model in recorded.values())
    for name, model in recorded.items():
        assert set(model.versions) == {p.name for p in (repository / name).iterdir() if p.name.isdecimal()}
    assert [p.name for p in staging.staging_root(repository).iterdir()] == ["lock"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A repository of version 1 for each manifest."""
    folders = {}
    for name, text in {"same": FIRST, "all": SECOND, "format": OTHER_FORMAT, "shape": OTHER_SHAPE}.items():
        folders[name] = tmp_path_factory.mktemp(name) / "repository"
        build(folders[name].parent, text)
    return folders


@pytest.mark.parametrize("change", ["all", "format", "shape"])
def test_killed_at_any_rename_it_serves_the_old_or_the_new(change: str, built: dict[str, Path], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(built["same"], repository)
    kill_at_each_rename(KILLED_PUBLISH, built[change], repository)


@pytest.mark.slow
@pytest.mark.parametrize("text", [SECOND, OTHER_FORMAT], ids=["all", "format"])
def test_whole_build_killed_at_any_rename(text: str, tmp_path: Path) -> None:
    build(tmp_path, FIRST)
    write_manifest(tmp_path, text)
    kill_at_each_rename(KILLED_BUILD, tmp_path, tmp_path / "repository")


def test_repository_from_before_the_lock_is_killed_truthfully_too(built: dict[str, Path], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(built["same"], repository)
    (repository / lock.FILENAME).unlink()
    kill_at_each_rename(KILLED_PUBLISH, built["all"], repository)


def test_killed_first_build_publishes_nothing_that_answers(tmp_path: Path) -> None:
    write_manifest(tmp_path, FIRST)
    repository = tmp_path / "repository"
    for fatal in (1, 2, 3, 4):
        assert killed(KILLED_BUILD, tmp_path, repository, fatal)
        assert answers(repository) == "nothing"
    assert not killed(KILLED_BUILD, tmp_path, repository, 100)
    assert len(served(repository)) == 3


def test_versions_count_up_and_stay(tmp_path: Path) -> None:
    assert [build(tmp_path, text)[0].version for text in (FIRST, SECOND, FIRST)] == [1, 2, 3]
    repository = tmp_path / "repository"
    assert sorted(p.name for p in (repository / "m_torchscript").iterdir() if p.name.isdecimal()) == ["1", "2", "3"]
    assert list(served(repository)["m"].version_policy.specific.versions) == [3]
    kept = model_config.read(repository / "m" / "2" / "config.pbtxt")
    assert [s.model_version for s in kept.ensemble_scheduling.step][1] == 2


def test_other_interface_gets_another_network_model(tmp_path: Path) -> None:
    build(tmp_path, FIRST)
    (built,) = build(tmp_path, OTHER_SHAPE)
    assert built.network_model == "m_torchscript_v2"
    assert set(served(tmp_path / "repository")) == {"m", "m_torchscript_v2", built.preprocess_model}


def test_former_format_is_taken_away(tmp_path: Path) -> None:
    build(tmp_path, FIRST)
    build(tmp_path, OTHER_FORMAT)
    assert "m_torchscript" not in served(tmp_path / "repository")


@pytest.mark.parametrize("name", ["m", "m_torchscript"])
def test_models_of_others_are_left_alone(name: str, tmp_path: Path) -> None:
    foreign = tmp_path / "repository" / name
    foreign.mkdir(parents=True)
    (foreign / "config.pbtxt").write_text(f'name: "{name}" backend: "python"')
    with pytest.raises(PublishError, match="was not made by build-repo"):
        build(tmp_path, FIRST)
    assert [p.name for p in (tmp_path / "repository").iterdir()] == [name]


def test_models_beside_ours_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "repository" / "by_hand"
    other.mkdir(parents=True)
    (other / "config.pbtxt").write_text("this is not even a config {")
    (tmp_path / "repository" / "README.md").write_text("a file")
    build(tmp_path, FIRST)
    assert (other / "config.pbtxt").exists()


def _build(folder: Path, seed: int) -> None:
    folder.mkdir()
    build(folder, FIRST.replace("random", f"random, seed: {seed}", 1), folder.parent / "repository")


def test_builds_at_the_same_time_get_versions_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    builds = [context.Process(target=_build, args=(tmp_path / f"b{i}", i)) for i in range(3)]
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
        build(tmp_path, FIRST)


def test_nothing_is_left_beside_the_repository(tmp_path: Path) -> None:
    build(tmp_path, FIRST)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".repository.staging",
        "models.yaml",
        "repository",
        "small.py",
    ]


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
    publish_model(tmp_path / "r", "m")  # its own, again
    publish_model(tmp_path / "s", "m_tensorrt")
    with pytest.raises(PublishError, match=r"'m_tensorrt' is in .* the ensemble, .* the network of 'm'"):
        publish_model(tmp_path / "s", "m")
    assert served_by(tmp_path / "r", "m") == ["preprocess", "network"]
    assert not (tmp_path / "s" / "m").exists()


def test_a_build_that_would_overwrite_computes_nothing(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "m", backend="torchscript")
    with pytest.raises(PublishError, match="the network of 'm'"):
        build(tmp_path, "models:\n  m_torchscript: {network: 'none.py:none', weights: random, "
              "preprocess: {channels: 3, resize: 40, crop: 32}}\n", tmp_path / "r")  # fmt: skip

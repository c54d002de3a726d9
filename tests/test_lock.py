"""What the lock says of a repository, and what it finds changed. tests/test_publish.py kills builds over it."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import build
from published import FACTS, publish_model, publish_plan

from builder.errors import BuilderError, PublishError, RepositoryError
from builder.repository import lock
from builder.repository.merge import merge_repositories


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("built") / "repository"
    publish_model(repository, backend="onnxruntime", filename="model.onnx", files={"model.onnx": "weights"})
    return repository


@pytest.fixture
def repository(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "repository"))


def step(repository: Path) -> Path:
    return repository / "preprocess_1"


def test_every_file_of_a_build_is_recorded(built: Path) -> None:
    document = json.loads((built / lock.FILENAME).read_text())
    recorded = {
        f"{model}/{file}": digest
        for model, record in document["models"].items()
        for version in record["versions"].values()
        for file, digest in version["files"].items()
    }
    for file, digest in recorded.items():
        assert hashlib.sha256((built / file).read_bytes()).hexdigest() == digest
    there = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert there - recorded.keys() == {lock.FILENAME, "m/config.pbtxt", "m_onnxruntime/config.pbtxt"}
    assert lock.problems(built) == []


def test_what_it_was_built_from(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    build(tmp_path, "models:\n  m: {network: lenet, weights: random, labels: labels.txt}\n")
    recorded = lock.read(tmp_path / "repository")
    version, network = recorded["m"].versions["1"], recorded["m_torchscript"].versions["1"]
    assert version
    assert network
    entry, facts = version.built_from["entry"], version.built_from["facts"]
    assert (entry["network"], entry["weights"], entry["labels"]) == ("lenet", "random", "labels.txt")
    assert entry["preprocess"]["channels"] == 1
    assert {"torch_version", "artifact_sha256", "builder"} <= facts.keys()
    assert facts["artifact_sha256"] == network.files["1/model.pt"]
    assert not network.built_from


def test_a_model_that_is_served_by_itself_is_recorded_whole(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", alone=True, files={"model.plan": "plan"})
    version = lock.read(tmp_path / "r")["m"].versions["1"]
    assert version
    assert set(version.files) == {"1/config.pbtxt", "1/labels.txt", "1/model.plan", "warmup/photo-1"}
    assert version.built_from == {"facts": FACTS}
    replace_byte(tmp_path / "r" / "m" / "1" / "model.plan")
    assert [problem.split()[0] for problem in lock.problems(tmp_path / "r")] == ["m/1/model.plan"]


def test_text_is_the_same_for_the_same_content(built: Path) -> None:
    text = (built / lock.FILENAME).read_text()
    shuffled = dict(reversed(list(lock.read(built).items())))
    assert lock.to_text(shuffled) == text


def replace_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


TAMPERED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "artifact": (lambda r: r / "m_onnxruntime" / "1" / "model.onnx", "differs"),
    "network's labels": (lambda r: r / "m_onnxruntime" / "1" / "labels.txt", "differs"),
    "ensemble's labels": (lambda r: r / "m" / "1" / "labels.txt", "differs"),
    "version's config": (lambda r: r / "m_onnxruntime" / "1" / "config.pbtxt", "differs"),
    "network's config": (lambda r: r / "m_onnxruntime" / "config.pbtxt", "none of its versions"),
    "ensemble's config": (lambda r: r / "m" / "config.pbtxt", "none of its versions"),
    "step's config": (lambda r: step(r) / "config.pbtxt", "none of its versions"),
    "step's code": (lambda r: step(r) / "1" / "model.py", "differs"),
    "step's warm-up": (lambda r: step(r) / "warmup" / "photo", "differs"),
    "network's warm-up": (lambda r: next((r / "m_onnxruntime" / "warmup").iterdir()), "differs"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_changed_or_missing_file_is_found(case: str, repository: Path) -> None:
    find, message = TAMPERED[case]
    path = find(repository)
    name = path.relative_to(repository).as_posix()
    replace_byte(path)
    (problem,) = lock.problems(repository)
    assert problem.startswith(f"{name} ")
    assert message in problem
    with pytest.raises(RepositoryError, match=f"(?s){re.escape(name)}.*build again"):
        lock.require_intact(repository)
    path.unlink()
    assert lock.problems(repository) == [f"{name} is missing"]


@pytest.mark.parametrize("name", ["1/extra.py", "extra.py", "7/model.onnx"])
def test_file_that_nobody_recorded_is_found(name: str, repository: Path) -> None:
    path = step(repository) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("import os")
    assert lock.problems(repository) == [f"{path.relative_to(repository).as_posix()} is not recorded"]


def test_one_plan_among_several(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", gpu="NVIDIA L4", capability="8.9")
    merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert lock.problems(tmp_path / "out") == []
    replace_byte(tmp_path / "out" / "m_tensorrt" / "1" / "model-8.9.plan")
    (problem,) = lock.problems(tmp_path / "out")
    assert problem.startswith("m_tensorrt/1/model-8.9.plan differs")


def test_caches_of_the_server_and_models_of_others_are_no_problem(repository: Path) -> None:
    (step(repository) / "1" / "__pycache__").mkdir()
    (step(repository) / "1" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"code")
    (repository / "by_hand" / "1").mkdir(parents=True)
    (repository / "by_hand" / "config.pbtxt").write_text('name: "by_hand"')
    (repository / "README.md").write_text("a file")
    lock.require_intact(repository)


def test_repository_from_before_the_lock_is_accepted_and_recorded_from_then_on(built: Path, repository: Path) -> None:
    (repository / lock.FILENAME).unlink()
    lock.require_intact(repository)
    merge_repositories([built], repository)
    assert lock.read(repository)["m"].versions["1"] is None
    assert lock.problems(repository) == []
    replace_byte(repository / "m_onnxruntime" / "1" / "model.onnx")  # of which nothing is known
    assert lock.problems(repository) == []
    replace_byte(repository / "m_onnxruntime" / "2" / "model.onnx")
    assert [problem.split()[0] for problem in lock.problems(repository)] == ["m_onnxruntime/2/model.onnx"]


def test_old_step_that_is_not_what_is_built_now_is_refused(tmp_path: Path) -> None:
    """The new model would run it; without a lock nothing else would show."""
    publish_model(tmp_path / "r", "a")
    (tmp_path / "r" / lock.FILENAME).unlink()
    with pytest.raises(PublishError, match="preprocess_1 is not the step that its name stands for"):
        publish_model(tmp_path / "r", "b", recipe='{"crop": 48}')
    assert not (tmp_path / "r" / "b").exists()
    publish_model(tmp_path / "r", "b")
    assert set(lock.read(tmp_path / "r")) == {"b", "b_tensorrt", "preprocess_1"}


@pytest.mark.parametrize("damaged", ["m_onnxruntime/1", "step"])
def test_advice_mends(damaged: str, built: Path, repository: Path) -> None:
    """Remove what is damaged and build again, as the message says; merging publishes as building does."""
    folder = step(repository) if damaged == "step" else repository / damaged
    replace_byte(next(path for path in folder.rglob("*.*") if path.suffix in (".onnx", ".py")))
    assert lock.problems(repository)
    shutil.rmtree(folder)
    merge_repositories([built], repository)
    lock.require_intact(repository)


def test_version_taken_away_by_hand_does_not_count(built: Path, repository: Path) -> None:
    merge_repositories([built], repository)
    for model in ("m", "m_onnxruntime"):
        shutil.rmtree(repository / model / "1")
    assert lock.problems(repository) == []
    merge_repositories([built], repository)
    assert set(lock.read(repository)["m"].versions) == {"2", "3"}


def test_version_that_is_served_cannot_be_taken_away(repository: Path) -> None:
    shutil.rmtree(repository / "m" / "1")
    assert lock.problems(repository) == ["m/config.pbtxt is that of none of its versions"]


def test_merge_carries_what_models_were_built_from(built: Path, tmp_path: Path) -> None:
    merge_repositories([built], tmp_path / "out")
    origins = [lock.read(folder)["m"].versions["1"] for folder in (built, tmp_path / "out")]
    assert origins[0]
    assert origins[1]
    assert origins[0].built_from == origins[1].built_from


OUTSIDE = '{"lock": 1, "models": {"../repository": {"versions": {}}}}'


@pytest.mark.parametrize(
    "text", ["", "{}", "[" * 100_000, '{"lock": 1, "models": []}', '{"lock": 1, "models": {"m": {}}}', OUTSIDE]
)
def test_damaged_lock_is_refused_and_nothing_is_published(text: str, built: Path, repository: Path) -> None:
    (repository / lock.FILENAME).write_text(text)
    for refused in (lambda: lock.require_intact(repository), lambda: merge_repositories([built], repository)):
        with pytest.raises(BuilderError, match=r"build-repo\.lock\.json cannot be read .* bring it back, or remove it"):
            refused()
    assert not (repository / "m" / "2").exists()


def test_lock_of_a_newer_build_repo(repository: Path) -> None:
    (repository / lock.FILENAME).write_text('{"lock": 2, "models": {}}')
    with pytest.raises(RepositoryError, match="has form 2, this build-repo reads 1"):
        lock.problems(repository)

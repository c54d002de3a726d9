"""Repositories into one: what goes together, what does not, and that a refusal changes nothing."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import FACTS, WARMUP_PIXELS, publish_model, publish_plan
from wholeness import answers, served

from builder.errors import MergeError, PublishError, RepositoryError
from builder.repository import layout, lock, staging
from builder.repository.merge import merge_repositories
from builder.repository.served import retired
from builder.triton import model_config

L4 = {"gpu": "NVIDIA L4", "capability": "8.9"}
GPUS = {"7.5": "NVIDIA T4", "8.0": "NVIDIA A100", "8.6": "NVIDIA A10", "8.9": "NVIDIA L4", "9.0": "NVIDIA H100"}


def tree(folder: Path) -> dict[str, str]:
    """Every file and its digest."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def facts(path: Path) -> dict[str, str]:
    return {key: value.string_value for key, value in model_config.read(path).parameters.items()}


def models(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.iterdir() if path.is_dir())


def plans(repository: Path, name: str = "m") -> dict[str, bytes]:
    """What a server on each GPU would load of the model, by compute capability."""
    ensemble = model_config.read(repository / name / "config.pbtxt")
    step = next(step for step in ensemble.ensemble_scheduling.step if "preprocess" not in step.model_name)
    network = model_config.read(repository / step.model_name / "config.pbtxt")
    version = repository / step.model_name / str(step.model_version)
    assert network.version_policy.specific.versions == [step.model_version]
    assert network.default_model_filename == layout.NO_PLAN
    assert not (version / layout.NO_PLAN).exists()
    assert {file.name for file in version.glob("*.plan")} == set(network.cc_model_filenames.values())
    return {capability: (version / file).read_bytes() for capability, file in network.cc_model_filenames.items()}


def test_plans_of_two_gpus_become_one_model(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", **L4)
    (merged,) = merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert (merged.name, merged.version, merged.network_model) == ("m", 1, "m_tensorrt")
    assert merged.capabilities == ("8.9", "9.0")
    assert merged.sources == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert plans(tmp_path / "out") == {"9.0": b"plan for NVIDIA H100", "8.9": b"plan for NVIDIA L4"}
    shared = {key: value for key, value in FACTS.items() if key != "builder"}
    for model, role in (("m", "ensemble"), ("m_tensorrt", "network")):
        recorded = facts(tmp_path / "out" / model / "config.pbtxt")
        assert recorded == shared | {
            "role": role,
            "gpu_9.0": "NVIDIA H100",
            "gpu_8.9": "NVIDIA L4",
            "driver_9.0": "driver of NVIDIA H100",
            "driver_8.9": "driver of NVIDIA L4",
            "builder_9.0": "build-repo 1",
            "builder_8.9": "build-repo 1",
        }
    assert models(tmp_path / "out") == ["m", "m_tensorrt", "preprocess_1"]
    assert (tmp_path / "out" / "m_tensorrt" / "warmup" / "photo-1").read_bytes() == WARMUP_PIXELS
    assert (tmp_path / "out" / "m" / "1" / "labels.txt").read_text() == "cat\ndog\n"


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(GPUS)), st.integers(0, 2), min_size=2))
def test_any_order_and_any_steps_give_the_same_plans(homes: dict[str, int]) -> None:
    """Each GPU's plan has a home among three repositories that are themselves merged first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for capability in homes:
            publish_plan(folder / capability, gpu=GPUS[capability], capability=capability)
        built = [folder / capability for capability in homes]
        merge_repositories(built, folder / "at once")
        groups = {home: [folder / c for c, own in homes.items() if own == home] for home in set(homes.values())}
        for home, members in groups.items():
            merge_repositories(members, folder / f"group {home}")
        merge_repositories([folder / f"group {home}" for home in groups], folder / "in steps")
        expected = {capability: f"plan for {GPUS[capability]}".encode() for capability in homes}
        assert plans(folder / "at once") == plans(folder / "in steps") == expected
        gpus = {f"gpu_{c}": GPUS[c] for c in homes}
        for out in ("at once", "in steps"):
            recorded = facts(folder / out / "m_tensorrt" / "config.pbtxt")
            # Where all have one home, its repository is copied, and was merged before.
            assert {key: value for key, value in recorded.items() if key.startswith("gpu")} == gpus


def test_model_that_only_one_has_is_copied(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a")
    onnx = {"backend": "onnxruntime", "filename": "model.onnx", "files": {"model.onnx": b"graph"}, "device": "cpu"}
    publish_model(tmp_path / "b", "other", labels=None, **onnx)
    merged = merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert [(model.name, model.capabilities) for model in merged] == [("m", ("9.0",)), ("other", ())]
    assert plans(tmp_path / "out") == {"9.0": b"plan for NVIDIA H100"}
    assert (tmp_path / "out" / "other_onnxruntime" / "1" / "model.onnx").read_bytes() == b"graph"
    for name in ("m", "m_tensorrt", "other_onnxruntime", "preprocess_1"):
        source = tmp_path / ("b" if name.startswith("other") else "a") / name / "config.pbtxt"
        assert model_config.read(tmp_path / "out" / name / "config.pbtxt") == model_config.read(source)


def test_served_version_is_taken_and_published_as_the_next(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a", plan=b"old")
    publish_plan(tmp_path / "a", plan=b"new", labels=("Cat", "Dog"))
    publish_plan(tmp_path / "out", plan=b"served so far")
    (merged,) = merge_repositories([tmp_path / "a"], tmp_path / "out")
    assert merged.version == 2
    assert plans(tmp_path / "out") == {"9.0": b"new"}
    ensemble = model_config.read(tmp_path / "out" / "m" / "config.pbtxt")
    assert ensemble.output[0].label_filename == "2/labels.txt"
    assert (tmp_path / "out" / "m" / "2" / "labels.txt").read_text() == "Cat\nDog\n"
    merge_repositories([tmp_path / "a"], tmp_path / "out")
    assert list(model_config.read(tmp_path / "out" / "m" / "config.pbtxt").version_policy.specific.versions) == [3]


def test_steps_of_machines_with_other_cores_are_one(tmp_path: Path) -> None:
    """A step's name says how many threads it runs, which is the building machine's matter."""
    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", step="preprocess_2", **L4)
    merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert models(tmp_path / "out") == ["m", "m_tensorrt", "preprocess_1"]


def test_same_model_twice_is_one(tmp_path: Path) -> None:
    onnx = {"backend": "onnxruntime", "filename": "model.onnx", "files": {"model.onnx": b"graph"}}
    for source in ("a", "b"):
        publish_model(tmp_path / source, "other", **onnx)
        publish_plan(tmp_path / source)
    merged = merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert [model.capabilities for model in merged] == [("9.0",), ()]
    assert plans(tmp_path / "out") == {"9.0": b"plan for NVIDIA H100"}


# What does not go together: the second repository, and what the message must say beside its path


def plan(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: publish_plan(folder, **(L4 | changes))


def other_format(folder: Path) -> None:
    publish_model(folder, backend="onnxruntime", filename="model.onnx", files={"model.onnx": b"graph"})


def without_its_plan(folder: Path) -> None:
    publish_plan(folder, **L4)
    (folder / "m_tensorrt" / "1" / "model-8.9.plan").unlink()


def without_its_network(folder: Path) -> None:
    publish_plan(folder, **L4)
    shutil.rmtree(folder / "m_tensorrt")


def foreign(folder: Path) -> None:
    (folder / "by_hand").mkdir(parents=True)
    (folder / "by_hand" / "config.pbtxt").write_text('name: "by_hand" backend: "python"')


REFUSED = {
    "labels": (plan(labels=("dog", "cat")), "the labels differ"),
    "no labels": (plan(labels=None), "the labels differ"),
    "classes": (plan(classes=3), "output differs"),
    "batch": (plan(max_batch_size=4), "max_batch_size is 8 and 4"),
    "recipe": (plan(recipe='{"crop": 48}', step="preprocess_2"), "preprocess_1 and preprocess_2"),
    "precision": (plan(facts={"precision": "fp32"}), "precision is fp16 and fp32"),
    "weights": (plan(facts={"weights_sha256": "b" * 64}), f"weights_sha256 is {'a' * 64} and {'b' * 64}"),
    "more": (plan(facts={"network_arguments": "{}"}), "network_arguments is not recorded and {}"),
    "tensorrt": (plan(facts={"tensorrt_version": "11.1.0"}), "of TensorRT 10.16.1.11 in"),
    "another GPU": (plan(capability="9.0", gpu="NVIDIA H200"), "NVIDIA H200 in"),
    "GPU again": (plan(capability="9.0", gpu="NVIDIA H100", plan=b"built again"), "different plans for NVIDIA H100"),
    "format": (other_format, "backend is tensorrt and onnxruntime"),
    "alone": (plan(alone=True), "one is an ensemble, and the other a network by itself"),
    "fewer steps": (plan(steps=[]), "the steps differ (preprocess_1 and none)"),
    "more steps": (plan(steps=["preprocess_1", "postprocess_1"]), "preprocess_1 and preprocess_1, postprocess_1"),
    "task": (plan(asked_facts={"task": "tensors"}), "task is classification and tensors"),
    "activation": (plan(asked_facts={"activation": "sigmoid"}), "activation is softmax and sigmoid"),
    "lost plan": (without_its_plan, "lacks its plan for 8.9"),
    "lost network": (without_its_network, "is not whole"),
    "foreign": (foreign, "has no models of build-repo"),
    "nothing": (lambda _: None, "is no repository"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_nothing_changed(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    sources = [tmp_path / "first", tmp_path / "second"]
    publish_plan(sources[0], "could be merged")
    publish_plan(sources[0])
    make(sources[1])
    publish_plan(tmp_path / "out", "there before")
    before = tree(tmp_path / "out")
    with pytest.raises(MergeError) as caught:
        merge_repositories(sources, tmp_path / "out")
    assert message in str(caught.value)
    assert str(sources[1]) in str(caught.value)
    assert tree(tmp_path / "out") == before
    assert [path.name for path in staging.staging_root(tmp_path / "out").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"files": {"model.xml": b"graph", "model.bin": b"other weights"}}, "the artifacts differ"),
        ({"files": {"model.xml": b"graph"}}, "the artifacts differ"),
        ({"max_batch_size": 4}, "max_batch_size is 8 and 4"),
    ],
)
def test_other_formats_must_be_the_same_files(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    """All files: OpenVINO's weights are not in the file that its config names."""
    values = {"backend": "openvino", "filename": "model.xml", "files": {"model.xml": b"graph", "model.bin": b"weights"}}
    publish_model(tmp_path / "a", **values)
    publish_model(tmp_path / "b", **(values | other))
    with pytest.raises(MergeError, match=message):
        merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_target_among_the_sources(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(MergeError, match="both a source and the target"):
        merge_repositories([tmp_path / "a"], tmp_path / "link")


def test_target_with_a_foreign_model_of_that_name(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a", "first")
    publish_plan(tmp_path / "a")
    foreign(tmp_path / "out")
    (tmp_path / "out" / "by_hand").rename(tmp_path / "out" / "m")
    before = tree(tmp_path / "out")
    with pytest.raises(PublishError, match="was not made by build-repo"):
        merge_repositories([tmp_path / "a"], tmp_path / "out")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("place", ["a source", "the target"])
def test_names_keep_their_roles(place: str, tmp_path: Path) -> None:
    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", "m_tensorrt")
    sources, out = ([tmp_path / "a", tmp_path / "b"], "out") if place == "a source" else ([tmp_path / "a"], "b")
    with pytest.raises(MergeError, match="m_tensorrt is the"):
        merge_repositories(sources, tmp_path / out)


AROUND = ["preprocess_1", "scale_1", "postprocess_1"]


@pytest.mark.parametrize("form", [{"alone": True}, {"steps": []}, {"steps": AROUND}], ids=str)
def test_plans_of_any_pipeline_go_together(form: dict[str, Any], tmp_path: Path) -> None:
    publish_plan(tmp_path / "a", **form)
    publish_plan(tmp_path / "b", **L4, **form)
    publish_plan(tmp_path / "out", "m")  # in another form
    (merged,) = merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    network = "m" if "alone" in form else "m_tensorrt"
    assert (merged.version, merged.network_model, merged.capabilities) == (2, network, ("8.9", "9.0"))
    assert set(served(tmp_path / "out")) - retired(tmp_path / "out") == {"m", network, *form.get("steps", [])}
    config = model_config.read(tmp_path / "out" / network / "config.pbtxt")
    files = {
        capability: tmp_path / "out" / network / "2" / file for capability, file in config.cc_model_filenames.items()
    }
    assert {capability: file.read_bytes() for capability, file in files.items()} == {
        "9.0": b"plan for NVIDIA H100",
        "8.9": b"plan for NVIDIA L4",
    }
    recorded = lock.read(tmp_path / "out")["m"].versions["2"]
    assert recorded
    assert set(recorded.built_from["plans"]) == {"8.9", "9.0"}
    lock.require_intact(tmp_path / "out")


def test_any_pipeline_is_copied_as_it_is(tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [{"alone": True}, {"steps": []}, {"steps": AROUND}]
    for number, form in enumerate(forms):
        publish_plan(tmp_path / "a", f"m{number}", **form)
    merge_repositories([tmp_path / "a"], tmp_path / "out")
    for number in range(len(forms)):
        # The default file of a plan is never there.
        assert answers(tmp_path / "out", f"m{number}") == answers(tmp_path / "a", f"m{number}")
    assert lock.read(tmp_path / "out") == lock.read(tmp_path / "a")


def test_what_was_published_before_tasks_is_of_the_first(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", **L4, asked_facts={"task": "classification", "activation": "softmax"})
    (merged,) = merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert merged.capabilities == ("8.9", "9.0")


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_alone_keeps_out_of_anothers_parts(alone: bool, tmp_path: Path) -> None:
    publish_plan(tmp_path / "a", "m_tensorrt", alone=True)
    publish_plan(tmp_path / "b")
    sources = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(MergeError, match="m_tensorrt is the"):
        merge_repositories(sources if alone else sources[::-1], tmp_path / "out")


def test_warm_up_without_a_file(tmp_path: Path) -> None:
    publish_plan(tmp_path / "a", alone=True)
    for path in (tmp_path / "a" / "m" / "config.pbtxt", tmp_path / "a" / "m" / "1" / "config.pbtxt"):
        path.write_text(path.read_text().replace('input_data_file: "photo-1"', "zero_data: true"))
    (tmp_path / "a" / lock.FILENAME).unlink()
    merge_repositories([tmp_path / "a"], tmp_path / "out")
    assert not (tmp_path / "out" / "m" / "warmup").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from builder.cli import main

    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", **L4)
    command = ["build-repo", "merge", str(tmp_path / "a"), str(tmp_path / "b"), "-r", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    (model,) = json.loads(capsys.readouterr().out)["merged"]
    assert model["capabilities"] == ["8.9", "9.0"]
    monkeypatch.setattr("sys.argv", [*command[:3], "-r", str(tmp_path / "a")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 12
    assert "both a source and the target" in capsys.readouterr().err


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    """Or what was damaged would be recorded as if it had been built so."""
    publish_plan(tmp_path / "a")
    (plan,) = (tmp_path / "a" / "m_tensorrt" / "1").glob("*.plan")
    plan.write_bytes(b"another")
    with pytest.raises(RepositoryError, match=plan.name):
        merge_repositories([tmp_path / "a"], tmp_path / "out")
    assert not (tmp_path / "out" / "m").exists()


def test_steps_of_one_name_are_one_step(tmp_path: Path) -> None:
    """Of two models; those of one model are compared anyway."""
    publish_plan(tmp_path / "a")
    publish_plan(tmp_path / "b", "other", recipe='{"crop": 48}')
    with pytest.raises(MergeError, match=r"preprocess_1 is one step in .*a and another in .*b"):
        merge_repositories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()

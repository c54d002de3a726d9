"""Configs of models with any inputs and outputs, as Triton's own message reads them."""

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from builder.errors import ConfigError
from builder.triton import model_config
from builder.triton.signature import TensorSpec
from builder.triton.warmup import WarmUp, WarmUpInput

IDS, MASK = TensorSpec("ids", "INT64", (-1,)), TensorSpec("mask", "INT64", (-1,))
TEXT, IMAGE = TensorSpec("text", "STRING", (1,)), TensorSpec("image", "FP32", (3, -1, -1))
HIDDEN, BEST = TensorSpec("hidden", "FP32", (-1, 8)), TensorSpec("best", "INT64", ())
WARMUPS = (
    WarmUp("first", (WarmUpInput("ids", "INT64", (7,), "ids-0"), WarmUpInput("mask", "INT64", (7,))), 4),
    WarmUp("second", (WarmUpInput("ids", "INT64", (9,), random=True), WarmUpInput("mask", "INT64", (9,), "mask"))),
)
NETWORK: dict[str, Any] = {
    "name": "encoder_onnx",
    "backend": "onnxruntime",
    "platform": "",
    "filename": "model.onnx",
    "by_capability": {},
    "max_batch_size": 8,
    "inputs": (IDS, MASK, IMAGE),
    "outputs": (HIDDEN, BEST),
    "nchw": {"image"},
    "optional": {"mask"},
    "labels": {"best": "3/labels.txt"},
    "versions": (2, 3),
    "device": "cpu",
    "instances": 2,
    "queue": model_config.QueuePolicy(),
    "warmups": WARMUPS,
    "parameters": {"role": "model", "task": "tensors"},
}


def rendered(template: str, values: dict[str, Any], **changes: Any) -> Any:
    text = model_config.render(template, **(values | changes))
    assert text.startswith("# ")
    return model_config.parse(text, template)


def test_network_of_several_tensors() -> None:
    model = rendered("network", NETWORK)
    assert [(each.name, each.data_type, list(each.dims)) for each in model.input] == [
        ("ids", model_config_pb2.TYPE_INT64, [-1]),
        ("mask", model_config_pb2.TYPE_INT64, [-1]),
        ("image", model_config_pb2.TYPE_FP32, [3, -1, -1]),
    ]
    assert [each.format for each in model.input] == [0, 0, model_config_pb2.ModelInput.FORMAT_NCHW]
    assert [each.optional for each in model.input] == [False, True, False]
    assert [each.label_filename for each in model.output] == ["", "3/labels.txt"]
    assert model.dynamic_batching.default_queue_policy.max_queue_size == 512
    assert list(model.version_policy.specific.versions) == [2, 3]
    assert {key: value.string_value for key, value in model.parameters.items()} == NETWORK["parameters"]


def test_one_number_a_sample_has_an_axis_to_clients_alone() -> None:
    hidden, best = rendered("network", NETWORK).output
    assert (list(best.dims), best.HasField("reshape"), list(best.reshape.shape)) == ([1], True, [])
    assert not hidden.HasField("reshape")


def test_warm_ups_are_several_requests() -> None:
    first, second = rendered("network", NETWORK).model_warmup
    assert (first.name, first.batch_size, second.batch_size) == ("first", 4, 1)
    assert first.inputs["ids"].input_data_file == "ids-0"
    assert first.inputs["mask"].zero_data
    assert second.inputs["ids"].random_data
    assert list(second.inputs["mask"].dims) == [9]


def test_network_without_a_batch() -> None:
    model = rendered("network", NETWORK, max_batch_size=0)
    assert not model.HasField("dynamic_batching")
    assert [each.batch_size for each in model.model_warmup] == [1, 1]
    assert not any(output.HasField("reshape") for output in model.output)


@pytest.mark.parametrize("count", [1, 4])
def test_ensemble_of_any_number_of_steps(count: int) -> None:
    steps = [
        {
            "model": f"step {n}",
            "version": n + 1,
            "inputs": {"IN": f"t{n}", "MORE": "text"},
            "outputs": {"OUT": f"t{n + 1}"},
        }
        for n in range(count)
    ]
    values = {"name": "e", "max_batch_size": 4, "inputs": (TEXT,), "outputs": (HIDDEN, BEST), "version": 5}
    model = rendered(
        "ensemble", values, labels={"hidden": "5/labels.txt"}, steps=steps, parameters={"role": "ensemble"}
    )
    found = model.ensemble_scheduling.step
    assert [(each.model_name, each.model_version) for each in found] == [(f"step {n}", n + 1) for n in range(count)]
    assert dict(found[-1].input_map) == {"IN": f"t{count - 1}", "MORE": "text"}
    assert dict(found[-1].output_map) == {"OUT": f"t{count}"}
    assert [list(each.dims) for each in model.output] == [[-1, 8], [1]]
    assert [each.label_filename for each in model.output] == ["5/labels.txt", ""]
    assert not model.HasField("dynamic_batching")


def test_step_of_texts() -> None:
    warm_up = WarmUp("photo", (WarmUpInput("text", "STRING", (1,), "photo"),), 2)
    values = {"name": "tokens", "max_batch_size": 16, "inputs": (TEXT,), "outputs": (IDS, MASK), "labels": {}}
    model = rendered(
        "step", values, queue=model_config.QueuePolicy(), warmups=(warm_up,), parameters={"role": "preprocess"}
    )
    assert model.backend == "python"
    assert model.input[0].data_type == model_config_pb2.TYPE_STRING
    assert model.model_warmup[0].inputs["text"].input_data_file == "photo"
    assert model.model_warmup[0].batch_size == 2


def test_value_that_is_missing_is_named() -> None:
    values = {key: value for key, value in NETWORK.items() if key != "warmups"}
    with pytest.raises(ConfigError, match="'warmups' is undefined"):
        model_config.render("network", **values)

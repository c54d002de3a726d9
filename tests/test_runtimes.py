"""What the embedded server's backends make of requests: several tensors, sizes that differ, and what does not fit."""

from pathlib import Path
from typing import Any

import fake_pb_utils
import numpy as np
import onnx
import pytest
import torch
from encoders import ENCODER, encoder, export, texts
from fake_pb_utils import Request, runtime
from onnx import TensorProto, helper
from torch import nn

from builder.exporters import EXPORTERS
from builder.triton.signature import Signature, TensorSpec
from builder.types import Target

OUTPUTS = ["hidden", "pooled", "best"]
FORMATS = ["torchscript", "onnx", "openvino"]


def tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [{"name": each.name, "data_type": f"TYPE_{each.data_type}", "dims": list(each.shape)} for each in specs]


def config_of(signature: Signature, **changes: Any) -> dict[str, Any]:
    return {"input": tensors(signature.inputs), "output": tensors(signature.outputs)} | changes


def loaded(module: Any, artifact: Path, config: dict[str, Any]) -> Any:
    model = module.TritonPythonModel()
    model.initialize(fake_pb_utils.arguments(artifact, config))
    return model


class Served:
    """An encoder, asked by the names of its signature, whatever the format calls them."""

    def __init__(self, format_name: str, folder: Path, module: Any) -> None:
        exporter = EXPORTERS[format_name]
        self.signature = ENCODER if exporter.NAMES_TENSORS else ENCODER.by_position()
        self.names = [tensor.name for tensor in self.signature.outputs]
        examples = self.renamed(texts(2, 5))
        artifact = export(folder / "1", (format_name, "fp32"), encoder(), self.signature, examples)
        # One thread: with it, OpenVINO says nothing of some mistakes. PyTorch's can be set but once in a process.
        given = exporter.parameters(Target(threads=1)) if format_name == "openvino" else {}
        parameters = {key: {"string_value": value} for key, value in given.items()}
        config = config_of(self.signature, parameters=parameters)
        # The order of a config is no order of forward()'s.
        config |= {key: config[key][::-1] for key in ("input", "output")}
        self.model = loaded(module, artifact, config)

    def renamed(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {tensor.name: value for tensor, value in zip(self.signature.inputs, given.values(), strict=True)}

    def request(self, **given: torch.Tensor) -> Request:
        return Request(self.names, **{name: value.numpy() for name, value in self.renamed(given).items()})

    def ask(self, *given: dict[str, torch.Tensor]) -> list[Any]:
        return list(self.model.execute([self.request(**each) for each in given]))

    def check(self, response: Any, given: dict[str, torch.Tensor]) -> None:
        assert response.error is None
        with torch.no_grad():
            expected = encoder()(*given.values())
        for name, wanted in zip(self.names, expected, strict=True):
            np.testing.assert_allclose(response.arrays()[name], wanted.numpy(), atol=1e-5)


@pytest.fixture(scope="module", params=FORMATS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    with runtime(EXPORTERS[request.param].BACKEND) as module:
        yield Served(request.param, folder, module)


def test_requests_of_other_sizes_are_answered_in_order(served: Served) -> None:
    given = [texts(1, 4), texts(2, 7), texts(3, 4), texts(1, 7), texts(1, 2)]
    for response, each in zip(served.ask(*given), given, strict=True):
        served.check(response, each)


def test_what_does_not_fit_fails_alone(served: Served) -> None:
    """Nor is it answered with what another request was answered."""
    first, broken, last = texts(2, 6), texts(2, 5) | {"mask": torch.ones(2, 6, dtype=torch.int64)}, texts(1, 6)
    answers = served.ask(first, broken, last)
    served.check(answers[0], first)
    assert answers[1].error
    assert not answers[1].tensors
    served.check(answers[2], last)
    served.check(served.ask(first)[0], first)


@pytest.mark.parametrize("length", [7, 60])
def test_what_did_not_fit_leaves_nothing_behind(length: int, served: Served) -> None:
    """The next request may have the same sizes, but for the one that did not fit."""
    given = texts(3, length)
    short = given | {"mask": given["mask"][:, :5]}
    served.check(served.ask(given)[0], given)
    for _ in range(2):
        assert served.ask(short)[0].error
        served.check(served.ask(given)[0], given)


def test_outputs_that_nobody_asked_for_are_left_out(served: Served) -> None:
    request = served.request(**texts(1, 3))
    request.wanted = served.names[1:2]
    (response,) = served.model.execute([request])
    assert list(response.tensors) == served.names[1:2]


def save(folder: Path, scripted: Any) -> None:
    (folder / "1").mkdir()
    torch.jit.save(scripted, str(folder / "1" / "model.pt"))


class Optional(nn.Module):
    def forward(self, x: torch.Tensor, plus: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"sum": x if plus is None else x + plus, "double": x * 2}


def test_optional_inputs_and_named_results_of_torchscript(tmp_path: Path) -> None:
    save(tmp_path, torch.jit.script(Optional()))
    names = Signature(
        (TensorSpec("plus", "FP32", (2,)), TensorSpec("x", "FP32", (2,))),
        (TensorSpec("double", "FP32", (2,)), TensorSpec("sum", "FP32", (2,))),
    )
    one, two = np.ones((1, 2), np.float32), np.full((2, 2), 2, np.float32)
    with runtime("pytorch") as module:
        model = loaded(module, tmp_path / "1" / "model.pt", config_of(names))
        answers = model.execute([Request(["sum", "double"], x=one), Request(["sum", "double"], x=two, plus=two)])
    assert [answer.arrays()["sum"].tolist() for answer in answers] == [[[1, 1]], [[4, 4], [4, 4]]]
    assert answers[1].arrays()["double"].tolist() == [[4, 4], [4, 4]]


@pytest.mark.parametrize("batch", [0, 4])
def test_texts_in_and_out_of_onnx(batch: int, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    value = helper.make_tensor_value_info("text", TensorProto.STRING, [None, 1])
    node = helper.make_node("Identity", ["text"], ["same"])
    graph = helper.make_graph([node], "g", [value], [helper.make_value_info("same", value.type)])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(tmp_path / "1" / "model.onnx"))
    names = Signature((TensorSpec("text", "STRING", (1,)),), (TensorSpec("same", "STRING", (1,)),))
    with runtime("onnxruntime") as module:
        model = loaded(module, tmp_path / "1" / "model.onnx", config_of(names, max_batch_size=batch))
        given = [np.array([["héllo".encode()]], object), np.array([[b"a"], [b""]], object)]
        answers = model.execute([Request(["same"], text=each) for each in given])
    assert [answer.arrays()["same"].tolist() for answer in answers] == [[["héllo"]], [["a"], [""]]]


def test_one_number_without_a_batch_has_an_axis(tmp_path: Path) -> None:
    save(tmp_path, torch.jit.trace(lambda x: x.sum(), torch.ones(3)))
    names = Signature((TensorSpec("INPUT__0", "FP32", (-1,)),), (TensorSpec("OUTPUT__0", "FP32", ()),), False)
    with runtime("pytorch") as module:
        model = loaded(module, tmp_path / "1" / "model.pt", config_of(names, max_batch_size=0))
        answers = model.execute([Request(["OUTPUT__0"], INPUT__0=np.ones(n, np.float32)) for n in (2, 2, 5)])
    assert [answer.arrays()["OUTPUT__0"].tolist() for answer in answers] == [[2], [2], [5]]


def test_rows_that_are_not_the_batchs_are_refused(tmp_path: Path) -> None:
    save(tmp_path, torch.jit.trace(lambda x: x.sum(0), torch.ones(2, 3)))
    names = Signature((TensorSpec("INPUT__0", "FP32", (3,)),), (TensorSpec("OUTPUT__0", "FP32", (3,)),))
    with runtime("pytorch") as module:
        model = loaded(module, tmp_path / "1" / "model.pt", config_of(names))
        request = Request(["OUTPUT__0"], INPUT__0=np.ones((2, 3), np.float32))
        answers = model.execute([request, request])
    assert [answer.error for answer in answers] == ["OUTPUT__0 is of [3] for a batch of 4"] * 2


def test_sizes_that_a_package_would_not_look_at(tmp_path: Path) -> None:
    save(tmp_path, torch.jit.trace(lambda a, b: a + b, (torch.ones(2, 3), torch.ones(2, 3))))
    names = Signature(
        (TensorSpec("a.x", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))), (TensorSpec("y", "FP32", (-1,)),)
    )
    equal = {"equal_sizes": {"string_value": "a.x.1=b.1"}}
    with runtime("pytorch") as module:
        model = loaded(module, tmp_path / "1" / "model.pt", config_of(names, parameters=equal))
        one, three = np.ones((1, 1), np.float32), np.ones((1, 3), np.float32)
        given: list[dict[str, Any]] = [{"a.x": one, "b": three}, {"a.x": three, "b": three}]
        refused, answered = model.execute([Request(["y"], **each) for each in given])
    assert refused.error == "these sizes, named by tensor and axis, must be equal: a.x.1 is 1, b.1 is 3"
    assert answered.arrays()["y"].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("backend", "data_type"), [("onnxruntime", "BF16"), ("openvino", "STRING"), ("pytorch", "STRING")]
)
def test_types_that_a_backend_has_not_are_told_when_it_loads(backend: str, data_type: str, tmp_path: Path) -> None:
    names = Signature((TensorSpec("x", data_type, (1,)),), (TensorSpec("y", "FP32", (1,)),))
    with runtime(backend) as module, pytest.raises(Exception, match=f"x is {data_type}: "):
        loaded(module, tmp_path / "1" / "model", config_of(names))


@pytest.mark.parametrize(
    ("names", "known", "order"),
    [
        (["mask", "ids"], ["ids", "mask", "more"], ["ids", "mask"]),
        (["INPUT__10", "INPUT__2"], ["x", "y"], ["INPUT__2", "INPUT__10"]),
        (["b", "a"], ["x", "y"], ["b", "a"]),
    ],
)
def test_inputs_are_ordered_as_nvidias_backend_does(names: list[str], known: list[str], order: list[str]) -> None:
    with runtime("pytorch") as module:
        assert module.by_place(names, known) == order

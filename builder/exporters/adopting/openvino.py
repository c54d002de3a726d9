"""OpenVINO's IR as artifacts: copied, or read, changed and saved; and ONNX converted to it."""

from __future__ import annotations

import re
import shutil
from typing import Any

from builder.errors import ExportError
from builder.exporters import openvino as exporter
from builder.exporters.adopting import endings
from builder.exporters.quiet import quiet
from builder.triton.interface import Interface, ToldTensor
from builder.types import AdoptRequest
from builder.util.reasons import reason

SUFFIXES: tuple[str, ...] = (".xml", ".onnx")
ADDS_ACTIVATION = True
RUNS_WHERE_BUILT = True
# bf16 is what the CPU computes in, whatever the weights are; fp16 is half the room for weights.
FROM = {"fp32": ("fp32", "fp16", "bf16", "int8"), "fp16": ("fp16", "bf16"), "bf16": ("bf16",), "int8": ("int8",)}

OPERATIONS = "openvino.opset13"
"""Of a set that older servers read, too."""


def precisions(told: Interface) -> tuple[str, ...]:
    return FROM.get(told.precision or "fp32", ())


def adopt(request: AdoptRequest) -> dict[str, str]:
    if request.source.suffix.lower() == ".xml" and not (_is_finished_here(request) or _is_recast(request)):
        _copy(request)
        return dict(request.interface.facts)
    openvino = exporter.imported("openvino")
    with quiet():
        model = _read(request, openvino)
    facts = request.interface.facts | {"converted_by": f"openvino {openvino.__version__}"}
    if request.changes_precision and request.target.precision == "int8":
        model = _quantized(model, request)
        facts |= {"nncf_version": exporter.imported("nncf").__version__}
    _name(model, request.interface)
    _save(_finished(model, request), request, openvino)
    return facts


def _is_recast(request: AdoptRequest) -> bool:
    return request.changes_precision and request.target.precision in ("fp16", "int8")


def _copy(request: AdoptRequest) -> None:
    shutil.copyfile(request.source, request.path)
    for name in request.interface.beside:
        shutil.copyfile(request.source.parent / name, request.path.with_suffix(".bin"))


def _read(request: AdoptRequest, openvino: Any) -> Any:
    try:
        is_ir = request.source.suffix.lower() == ".xml"
        return (openvino.Core().read_model if is_ir else openvino.convert_model)(str(request.source))
    except Exception as error:  # of whatever kind its front ends have
        raise ExportError(f"OpenVINO cannot read {request.source.name}: {reason(error)}") from None


def _quantized(model: Any, request: AdoptRequest) -> Any:
    if request.calibration is None:
        raise ExportError("int8 is calibrated, and there is nothing to calibrate it with; give `calibration:`")
    return exporter.quantized(model, request.calibration)


def _name(model: Any, told: Interface) -> None:
    """The names that its file has; what has none is named as its operation."""
    for ports, tensors in ((model.inputs, told.inputs), (model.outputs, told.outputs)):
        for port, tensor in zip(ports, tensors or (), strict=False):
            _require_name(port.get_tensor(), tensor)


def _require_name(tensor: Any, told: ToldTensor) -> None:
    if told.name not in tensor.get_names():
        tensor.add_names({told.name})


def _finished(model: Any, request: AdoptRequest) -> Any:
    """The model with what makes probabilities of it behind its one output, in float32, under the output's own names."""
    if not _is_finished_here(request):
        return model
    if request.activation != "none":
        endings.require_scores(endings.last_of_model(model), request.source.name)
    openvino, operations = exporter.imported("openvino"), exporter.imported(OPERATIONS)
    scores = model.outputs[0].get_node().input_value(0)
    names = model.outputs[0].get_tensor().get_names()
    scores.get_tensor().set_names(set())
    last = operations.convert(scores, "f32")
    if request.activation != "none":
        last = operations.softmax(last, 1) if request.activation == "softmax" else operations.sigmoid(last)
    last.output(0).get_tensor().set_names(names)
    return openvino.Model([last], model.get_parameters(), "network")


def _is_finished_here(request: AdoptRequest) -> bool:
    outputs = request.interface.outputs
    return request.activation != "none" or (
        request.is_widened and outputs is not None and outputs[0].data_type != "FP32"
    )


def _save(model: Any, request: AdoptRequest, openvino: Any) -> None:
    compress = request.changes_precision and request.target.precision == "fp16"
    try:
        openvino.save_model(model, str(request.path), compress_to_fp16=compress)
    except RuntimeError as error:
        raise OSError(f"OpenVINO: {reason(error)}; is the disk full?") from None
    graph = request.path.read_text(encoding="utf-8")
    request.path.write_text(re.sub(r'<net name="\w+"', '<net name="network"', graph, count=1), encoding="utf-8")

"""TensorRT plans, built for the GPU at hand from an ONNX graph: Triton's `tensorrt` backend."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.exporters import onnx, onnx_file, onnx_int8, plans, profiles, trtexec
from builder.exporters.half import in_precision
from builder.exporters.settings import PlanSettings
from builder.machine import hardware
from builder.triton import releases
from builder.types import ExportRequest, Predict, Target

if TYPE_CHECKING:
    from pydantic import BaseModel

    from builder.triton.signature import Signature

FILENAME = "model.plan"
BACKEND = "tensorrt"
PLATFORM = ""
PER_GPU = True
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": (), "gpu": ("fp32", "fp16", "bf16", "int8")}
NAMES_TENSORS = True
OPTIONS: type[BaseModel] | None = PlanSettings
VERSIONED: tuple[str, ...] = ("torch", "onnx")

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def imported() -> Any:
    """The tensorrt module; None where it is not installed, or its libraries are not."""
    try:
        import tensorrt
    except (ImportError, OSError):
        return None
    return tensorrt


@dataclass(frozen=True)
class Tools:
    """What plans are built with. Each is looked for when it is needed."""

    gpu: Callable[[], hardware.Gpu | None] = hardware.gpu
    tensorrt: Callable[[], Any] = imported
    docker: Callable[[], Any] = trtexec.connect
    """A client, or ExportError."""


HERE = Tools()


def objection(options: BaseModel | None, max_batch_size: int) -> tuple[str, str] | None:
    optimum = options.optimum_batch_size if isinstance(options, PlanSettings) else None
    if optimum and optimum > max(1, max_batch_size):
        return f"the largest batch is {max_batch_size}, see max_batch_size", "optimum_batch_size"
    return None


def refusal(target: Target, tools: Tools = HERE) -> str:
    settings = _settings(target)
    missing = [] if tools.gpu() else ["an NVIDIA GPU, for which it is compiled and on which it is timed"]
    if _builder(settings, tools) is None:
        missing.append(_wanted_builder(settings, tools))
    return f"a plan cannot be built here; missing: {'; and '.join(missing)}" if missing else ""


def _builder(settings: PlanSettings, tools: Tools) -> str | None:
    """Which of the two builders is used, if any can be."""
    if settings.builder != "trtexec" and tools.tensorrt() is not None:
        return "python"
    return "trtexec" if settings.builder != "python" and not _docker_refusal(tools) else None


def _docker_refusal(tools: Tools) -> str:
    try:
        tools.docker().close()
    except ExportError as error:
        return str(error)
    return ""


def _wanted_builder(settings: PlanSettings, tools: Tools) -> str:
    package = "the Python package tensorrt (pip install tensorrt)"
    if settings.builder == "python":
        return package
    engine = f"a Docker engine, for the trtexec of {_image(settings)} ({_docker_refusal(tools)})"
    return engine if settings.builder == "trtexec" else f"{package}, or {engine}"


def _settings(target: Target) -> PlanSettings:
    return target.options if isinstance(target.options, PlanSettings) else PlanSettings()


def _image(settings: PlanSettings) -> str:
    return settings.image or releases.newest().reference()


def export(request: ExportRequest, tools: Tools = HERE) -> dict[str, str]:
    settings = _settings(request.target)
    gpu = _require_gpu(request.target, tools)
    sizes = profiles.of(request, settings)
    with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".tensorrt-") as folder:
        graph = write_graph(request, Path(folder))
        order = plans.PlanOrder(
            graph=graph,
            plan=graph.with_name(FILENAME),
            profiles=sizes,
            workspace_mib=settings.workspace_mib,
            gpu=gpu.name,
        )
        facts = _build(order, settings, gpu, tools)
        shutil.move(order.plan, request.path)
    facts |= {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "opset": str(onnx.OPSET),
    }
    return facts | _optimum(request, settings)


def _optimum(request: ExportRequest, settings: PlanSettings) -> dict[str, str]:
    if not request.signature.batched:
        return {}
    return {"optimum_batch_size": str(profiles.optimum_batch(request.target, settings))}


def _require_gpu(target: Target, tools: Tools) -> hardware.Gpu:
    gpu = tools.gpu()
    if gpu is None or _builder(_settings(target), tools) is None:
        raise ExportError(refusal(target, tools))
    return gpu


def _build(order: plans.PlanOrder, settings: PlanSettings, gpu: hardware.Gpu, tools: Tools) -> dict[str, str]:
    if _builder(settings, tools) == "python":
        return {"tensorrt_version": plans.build(order, tools.tensorrt()), "plan_builder": "python"}
    image = _image(settings)
    version = trtexec.build(order, image, gpu.uuid, tools.docker)
    return {"tensorrt_version": version, "plan_builder": f"trtexec {image}"}


def write_graph(request: ExportRequest, folder: Path) -> Path:
    """The ONNX graph that a plan is built from, with the precision in it; needs no GPU."""
    precision, first, graph = request.target.precision, folder / "exported.onnx", folder / onnx.FILENAME
    onnx.write_graph(in_precision(request.module, precision), request, first)
    if precision == "int8":
        assert request.calibration is not None  # the plan holds it for int8
        first = onnx_int8.quantize(first, request.calibration, onnx_int8.FOR_TENSORRT)
    if precision == "bf16":
        _round_folded(first)
    onnx_file.join(first, graph)
    return graph


def _round_folded(graph: Path) -> None:
    """Back to bf16 what the ONNX exporter folded in float32: convolutions with their batch normalisations.

    NumPy has no bf16 of its own, and mixed operators are refused by strong typing.
    """
    import ml_dtypes
    import onnx as onnx_package
    from onnx import TensorProto, numpy_helper

    model = onnx_package.load(str(graph))
    weighted = {name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in weighted and tensor.data_type == TensorProto.FLOAT:
            rounded = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    location = f"{graph.name}.rounded"
    onnx_package.save(model, str(graph), save_as_external_data=True, location=location)


def load(path: Path, target: Target, signature: Signature, tools: Tools = HERE) -> Predict:
    gpu = _require_gpu(target, tools)
    settings = _settings(target)
    if _builder(settings, tools) == "python":
        return plans.load(path, tools.tensorrt(), signature)
    image = trtexec.Image(_image(settings), gpu.uuid, tools.docker)
    return trtexec.load(path, image, signature)


def parameters(target: Target) -> dict[str, str]:
    return {}

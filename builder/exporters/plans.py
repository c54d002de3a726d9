"""TensorRT plans from ONNX graphs by its Python API, 10 and 11 alike: all precision is the graph's own."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.exporters.profiles import Profile
from builder.triton.signature import Signature, torch_type
from builder.types import Predict, Tensors

if TYPE_CHECKING:
    import torch

MIB = 1024 * 1024


@dataclass(frozen=True)
class PlanOrder:
    """A plan to be built."""

    graph: Path
    """An ONNX file, in a folder that the builder may write to."""
    plan: Path
    """To be written, in the same folder."""
    profiles: tuple[Profile, ...]
    """One for each input; none where all sizes are fixed."""
    workspace_mib: int
    gpu: str
    """Its name, for that of the timing cache."""


def build(order: PlanOrder, trt: Any) -> str:
    """Write the plan with `trt`, which is the tensorrt module; its version. Raises ExportError."""
    log = _error_log(trt)
    builder = trt.Builder(log)
    # By name: the flag's value is 1 in TensorRT 10, which needs it, and 0 in 11, where it is the only way.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(order.graph, network, log, trt)
    config = _config(builder, order, trt)
    cache = cache_file(trt.__version__, order.gpu)
    _use_cache(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT {trt.__version__} cannot build the plan: {log.told()}")
    with order.plan.open("wb") as file:
        file.write(plan)
    if timings := config.get_timing_cache():
        save_cache(cache, memoryview(timings.serialize()))
    return str(trt.__version__)


def _parse(graph: Path, network: Any, log: Any, trt: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ExportError(f"TensorRT {trt.__version__} cannot read the ONNX graph: {errors or log.told()}")


def _config(builder: Any, order: PlanOrder, trt: Any) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_mib * MIB)
    # Else float32 would be computed with 10 bits of mantissa; what may be rounded, the graph says.
    config.clear_flag(trt.BuilderFlag.TF32)
    if order.profiles:
        _add_profile(builder, config, order, trt)
    return config


def _add_profile(builder: Any, config: Any, order: PlanOrder, trt: Any) -> None:
    profile = builder.create_optimization_profile()
    for each in order.profiles:
        profile.set_shape(each.name, *each.shapes)
    if config.add_optimization_profile(profile) < 0:
        raise ExportError(f"TensorRT {trt.__version__} refuses {'; '.join(map(str, order.profiles))}")


def _use_cache(config: Any, file: Path) -> None:
    """What was timed before need not be again; a cache of another machine or a broken one starts anew."""
    cache = config.create_timing_cache(read_cache(file))
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def cache_file(version: str, gpu: str) -> Path:
    """Where the timings of a TensorRT on a GPU are kept between builds."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{version} {gpu}")
    return root / "build-repo" / "tensorrt" / f"{name}.cache"


def read_cache(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def save_cache(file: Path, content: bytes | memoryview) -> None:
    """Whole or not at all, for builds at the same time; without a place for it, the next build takes longer."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            temporary = Path(folder, file.name)
            temporary.write_bytes(content)
            temporary.replace(file)
    except OSError:
        return


def load(path: Path, trt: Any, signature: Signature) -> Predict:
    """A plan as a function of tensors on the CPU, run on the GPU. Raises ExportError."""
    import torch

    log = _error_log(trt)
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ExportError(f"TensorRT {trt.__version__} cannot load the plan: {log.told()}")
    context = engine.create_execution_context()

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        # On the default stream TensorRT adds synchronisations of its own.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            given = {tensor.name: tensors[tensor.name].to("cuda") for tensor in signature.inputs}
            outputs = execute(context, given, signature, stream.cuda_stream)
            stream.synchronize()
        return {name: output.cpu() for name, output in outputs.items()}

    return predict


def execute(context: Any, tensors: Tensors, signature: Signature, stream: int) -> dict[str, torch.Tensor]:
    """Start a plan's execution context; the outputs are there once the stream has been synchronised."""
    given = {name: tensor.contiguous() for name, tensor in tensors.items()}
    for name, tensor in given.items():
        if not context.set_input_shape(name, tuple(tensor.shape)):
            raise ExportError(f"the plan takes no `{name}` of {list(tensor.shape)}")
    outputs = _outputs(context, signature, next(iter(given.values())).device)
    for name, tensor in (given | outputs).items():
        context.set_tensor_address(name, tensor.data_ptr())
    if not context.execute_async_v3(stream):
        shapes = ", ".join(f"`{name}` of {list(tensor.shape)}" for name, tensor in given.items())
        raise ExportError(f"the plan failed on {shapes}")
    return outputs


def _outputs(context: Any, signature: Signature, device: torch.device) -> dict[str, torch.Tensor]:
    """Room for them. Raises ExportError where their sizes are known only when they are computed."""
    import torch

    found = {}
    for tensor in signature.outputs:
        shape = tuple(context.get_tensor_shape(tensor.name))
        if any(size < 0 for size in shape):
            raise ExportError(f"the sizes of `{tensor.name}` depend on what is computed, which plans cannot serve here")
        found[tensor.name] = torch.empty(shape, dtype=torch_type(tensor.data_type), device=device)
    return found


def _error_log(trt: Any) -> Any:
    """TensorRT's logger that keeps the errors, which are the only reasons it gives."""

    class ErrorLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

        def told(self) -> str:
            return "; ".join(self.errors) or "it says no more"

    return ErrorLog()

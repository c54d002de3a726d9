"""TensorRT plans from ONNX graphs by its Python API, 10 and 11 alike: all precision is the graph's own."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT
from builder.types import Predict

if TYPE_CHECKING:
    import torch

MIB = 1024 * 1024


@dataclass(frozen=True)
class Order:
    """A plan to be built."""

    graph: Path
    """An ONNX file, in a folder that the builder may write to."""
    plan: Path
    """To be written, in the same folder."""
    shape: tuple[int, ...]
    """Of one image: C, H, W."""
    optimum: int
    largest: int
    """Batch sizes. The least is 1."""
    workspace_mib: int
    gpu: str
    """Its name, for that of the timing cache."""

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Least, optimum and largest, with the batch."""
        return tuple((batch, *self.shape) for batch in (1, self.optimum, self.largest))


def build(order: Order, trt: Any) -> str:
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


def _config(builder: Any, order: Order, trt: Any) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_mib * MIB)
    # Else float32 would be computed with 10 bits of mantissa; what may be rounded, the graph says.
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    profile.set_shape(NETWORK_INPUT, *order.shapes())
    if config.add_optimization_profile(profile) < 0:
        raise ExportError(f"TensorRT {trt.__version__} refuses batches of {order.optimum} up to {order.largest}")
    return config


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


def load(path: Path, trt: Any) -> Predict:
    """A plan as a function of tensors on the CPU, run on the GPU. Raises ExportError."""
    import torch

    log = _error_log(trt)
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ExportError(f"TensorRT {trt.__version__} cannot load the plan: {log.told()}")
    context = engine.create_execution_context()

    def predict(batch: torch.Tensor) -> torch.Tensor:
        # On the default stream TensorRT adds synchronisations of its own.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            outputs = execute(context, batch.to("cuda"), stream.cuda_stream)
            stream.synchronize()
        return outputs.cpu()

    return predict


def execute(context: Any, batch: torch.Tensor, stream: int) -> torch.Tensor:
    """Start a plan's execution context on a batch; the outputs are there once the stream has been synchronised."""
    import torch

    batch = batch.contiguous()
    if not context.set_input_shape(NETWORK_INPUT, tuple(batch.shape)):
        raise ExportError(f"the plan takes no batch of {len(batch)}")
    outputs = torch.empty(tuple(context.get_tensor_shape(NETWORK_OUTPUT)), device=batch.device)
    context.set_tensor_address(NETWORK_INPUT, batch.data_ptr())
    context.set_tensor_address(NETWORK_OUTPUT, outputs.data_ptr())
    if not context.execute_async_v3(stream):
        raise ExportError(f"the plan failed on a batch of {len(batch)}")
    return outputs


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

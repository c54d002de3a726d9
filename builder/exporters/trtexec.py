"""TensorRT plans by the trtexec of a serving image, in Docker: the server's very own version builds them."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.exporters.plans import PlanOrder, cache_file, read_cache, save_cache
from builder.machine import docker
from builder.triton import releases
from builder.triton.signature import ANY_SIZE, Signature, torch_type
from builder.types import Predict, Tensors

if TYPE_CHECKING:
    import torch

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
FOLDER = "/build"
"""Where the container sees the staging folder."""
CACHE = "timings.cache"
OUTPUTS = "outputs.json"
TOLD_LINES = 15
VERSIONS = (re.compile(r"TensorRT version: (\d+\.\d+\.\d+)"), re.compile(r"TensorRT v(\d+)(\d\d)(\d\d)\]"))


@dataclass(frozen=True)
class Container:
    """How a command is run in the image."""

    image: str
    command: list[str]
    folder: Path
    """The one folder that it sees, as FOLDER."""
    gpu: str
    """The UUID of the one GPU that it sees."""


def connect() -> Any:
    """A client of this machine's Docker engine, which has answered. Raises ExportError."""
    return docker.connect(ExportError)


def build(order: PlanOrder, image: str, gpu: str, connect: Callable[[], Any]) -> str:
    """Write the plan with the image's trtexec; TensorRT's version. Raises ExportError."""
    cache = cache_file(image, order.gpu)
    (order.graph.parent / CACHE).write_bytes(read_cache(cache))
    log = run(Container(image, build_command(order), order.graph.parent, gpu), connect)
    if not order.plan.exists():
        raise ExportError(f"trtexec in {image} wrote no plan; it said:\n{last_lines(log)}")
    save_cache(cache, read_cache(order.graph.parent / CACHE))
    return version_of(log, image)


def build_command(order: PlanOrder) -> list[str]:
    return [
        TRTEXEC,
        f"--onnx={FOLDER}/{order.graph.name}",
        f"--saveEngine={FOLDER}/{order.plan.name}",
        "--stronglyTyped",  # TensorRT 11 knows nothing else, and ignores it
        "--noTF32",  # float32 means float32; what may be rounded, the graph says
        *_shape_options(order),
        f"--memPoolSize=workspace:{order.workspace_mib}",
        f"--timingCacheFile={FOLDER}/{CACHE}",
        "--skipInference",
    ]


def _shape_options(order: PlanOrder) -> list[str]:
    kinds = {"min": "least", "opt": "optimum", "max": "largest"} if order.profiles else {}
    return [
        f"--{kind}Shapes={_listed({each.name: _size(getattr(each, key)) for each in order.profiles})}"
        for kind, key in kinds.items()
    ]


def _listed(values: Mapping[str, str]) -> str:
    """As trtexec reads what is said of several tensors; a name with its own separators in it stands in quotes."""
    return ",".join(f"{_quoted(name)}:{value}" for name, value in values.items())


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w./]+", name) else f"'{name}'"


def _size(shape: Sequence[int]) -> str:
    """A tensor without axes is, to trtexec, a scalar."""
    return "x".join(map(str, shape)) or "scalar"


def run_command(plan: str, shapes: Mapping[str, Sequence[int]], files: Mapping[str, str], outputs: str) -> list[str]:
    """One inference: `files` hold each input's raw values, `outputs` is written as JSON."""
    return [
        TRTEXEC,
        f"--loadEngine={FOLDER}/{plan}",
        *([f"--shapes={_listed({name: _size(shape) for name, shape in shapes.items()})}"] if shapes else []),
        f"--loadInputs={_listed({name: f'{FOLDER}/{file}' for name, file in files.items()})}",
        f"--exportOutput={FOLDER}/{outputs}",
        "--iterations=1",
        "--duration=0",
        "--warmUp=0",
    ]


def run(job: Container, connect: Callable[[], Any]) -> str:
    """The log of a command that ended well, in a container that is gone afterwards. Raises ExportError."""
    with closing(connect()) as client:
        status, log = _run(job, client)
    if status != 0:
        raise ExportError(f"trtexec in {job.image} failed with status {status}; it said:\n{last_lines(log)}")
    return log


def _run(job: Container, client: Any) -> tuple[int, str]:
    from docker.errors import APIError, ImageNotFound

    name = f"build-repo-{secrets.token_hex(6)}"
    try:
        container = client.containers.create(job.image, job.command, name=name, **_isolation(job, client))
        container.start()
        return container.wait(timeout=None)["StatusCode"], str(container.logs(), errors="replace")
    except ImageNotFound:
        raise ExportError(
            f"the image {job.image} is not on this machine; run: docker pull {job.image} (with the registry's name "
            f"in front, which {releases.REGISTRY_VARIABLE} or `tensorrt: {{image: ...}}` in the manifest can hold)"
        ) from None
    except (APIError, OSError) as error:
        raise ExportError(_engine_refusal(str(error))) from None
    finally:
        # By its name, since Ctrl-C may come before the engine's answer has.
        with suppress(APIError, OSError):
            client.containers.get(name).remove(force=True)


def _isolation(job: Container, client: Any) -> dict[str, Any]:
    """No network, nothing of this machine but one folder and one GPU, and the caller's own rights."""
    from docker.types import DeviceRequest

    # The root of an engine that the caller runs is the caller; other users there are nobody here.
    return {
        # The image's own entrypoint stays: it lays out the CUDA libraries for older drivers.
        "volumes": {str(job.folder.absolute()): {"bind": FOLDER, "mode": "rw"}},
        "working_dir": FOLDER,
        "network_disabled": True,
        "user": "0:0" if docker.is_rootless(client) else f"{os.getuid()}:{os.getgid()}",
        "device_requests": [DeviceRequest(device_ids=[job.gpu], capabilities=[["gpu"]])],
    }


def _engine_refusal(reason: str) -> str:
    if docker.lacks_gpu_runtime(reason):
        return f"Docker cannot give a container the GPU: {reason}; {docker.TOOLKIT}"
    return f"Docker's engine refused to run trtexec: {reason}"


def last_lines(log: str) -> str:
    return "\n".join([line for line in log.splitlines() if line.strip()][-TOLD_LINES:])


def version_of(log: str, image: str) -> str:
    """TensorRT's version: as trtexec told it, else as the image is known to have."""
    for pattern in VERSIONS:
        if found := pattern.search(log):
            return ".".join(str(int(part)) for part in ".".join(found.groups()).split("."))
    known = releases.of_reference(image)
    return known.tensorrt if known else "unknown"


@dataclass(frozen=True)
class Image:
    """Where the plan is run."""

    reference: str
    gpu: str
    """The UUID of the one GPU."""
    connect: Callable[[], Any]


def load(path: Path, image: Image, signature: Signature) -> Predict:
    """A plan as a function, each call a run of the image's trtexec, which may raise ExportError."""

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".trtexec-") as name:
            folder = Path(name)
            os.link(path, folder / path.name)
            given = {tensor.name: tensors[tensor.name] for tensor in signature.inputs}
            command = run_command(path.name, _shapes(given, signature), _write_inputs(folder, given), OUTPUTS)
            run(Container(image.reference, command, folder, image.gpu), image.connect)
            return _read_outputs(folder / OUTPUTS, signature)

    return predict


def _shapes(given: Tensors, signature: Signature) -> dict[str, tuple[int, ...]]:
    """Those of inputs that may have others: trtexec takes none for a plan whose sizes are fixed."""
    open_ = [tensor.name for tensor in signature.inputs if signature.batched or ANY_SIZE in tensor.shape]
    return {name: tuple(given[name].shape) for name in open_}


def _write_inputs(folder: Path, given: Tensors) -> dict[str, str]:
    """By input, the file of its raw values. Their names are numbers: an input's may be anything."""
    import torch

    files = {name: f"input-{number}" for number, name in enumerate(given)}
    for name, tensor in given.items():
        raw = tensor.contiguous().reshape(-1).view(torch.uint8)  # NumPy has not all types
        raw.numpy().tofile(folder / files[name])
    return files


def _read_outputs(file: Path, signature: Signature) -> dict[str, torch.Tensor]:
    import torch

    found = {tensor["name"]: tensor for tensor in json.loads(file.read_text(encoding="utf-8"))}
    outputs = {}
    for tensor in signature.outputs:
        shape = [int(size) for size in re.findall(r"\d+", found[tensor.name]["dimensions"])]
        values = torch.tensor(found[tensor.name]["values"], dtype=torch_type(tensor.data_type))
        outputs[tensor.name] = values.reshape(shape)
    return outputs

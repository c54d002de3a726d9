"""TensorRT plans, as far as a machine without GPU can tell: the graph, and every call and command."""

import ast
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bindings
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from docker.errors import APIError, DockerException, ImageNotFound
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from tools import which
from torch import nn

from builder.errors import EngineError, ExportError
from builder.exporters import plans, profiles, tensorrt, trtexec
from builder.exporters.settings import PlanSettings
from builder.machine import docker
from builder.machine.hardware import Gpu
from builder.networks.heads import one_tensor, with_head
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec
from builder.types import ExportRequest, Target

H100 = Gpu("NVIDIA H100", "9.0", "580.95", "GPU-0123")
SHAPE = (3, 32, 32)
SIGNATURE = Signature((TensorSpec(NETWORK_INPUT, "FP32", SHAPE),), (TensorSpec(NETWORK_OUTPUT, "FP32", (5,)),))
TEXTS = Signature(
    (TensorSpec("ids", "INT64", (-1,)), TensorSpec("in:mask", "INT64", (-1,)), TensorSpec("scale", "FP32", (3,))),
    (TensorSpec("hidden", "FP32", (-1, 8)), TensorSpec("best", "INT64", ())),
)
IMAGE = "tritonserver:26.07-py3"


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    module[0].weight.data *= torch.arange(1, 9)[:, None, None, None]  # channels whose scales differ
    module[7].weight.data *= 20
    return with_head(module, [NETWORK_INPUT], one_tensor, nn.Softmax(dim=1))


def images(count: int = 16) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def request(path: Path, precision: str = "fp32", settings: PlanSettings | None = None) -> ExportRequest:
    target = Target(precision, "gpu", max_batch_size=8, options=settings)
    calibration = [{NETWORK_INPUT: image} for image in images().split(1)]
    return ExportRequest(network(), SIGNATURE, {NETWORK_INPUT: images(2)}, path, target, calibration)


# The ONNX stage


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16", "int8"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    order = globals()["request"](folder / "model.plan", request.param)
    path: Path = tensorrt.write_graph(order, folder)
    return request.param, path.rename(folder.with_suffix(".onnx"))  # away from whatever lies beside it


def test_graph_is_one_valid_file(graph: tuple[str, Path]) -> None:
    onnx.checker.check_model(str(graph[1]))
    model = onnx.load(str(graph[1]), load_external_data=False)
    assert not [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    (given,), (gives,) = model.graph.input, model.graph.output
    for value, name in ((given, NETWORK_INPUT), (gives, NETWORK_OUTPUT)):
        assert value.name == name
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert value.type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("graph", ["fp32", "fp16", "int8"], indirect=True)  # ONNX Runtime has no bf16 convolutions
@pytest.mark.parametrize("batch", [1, 5])
def test_graph_computes_what_the_network_does(graph: tuple[str, Path], batch: int) -> None:
    precision, path = graph
    pixels = images(batch)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run([NETWORK_OUTPUT], {NETWORK_INPUT: pixels.numpy()})
    with torch.no_grad():
        expected = network()(pixels).numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol={"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-2}[precision])


def test_precision_is_the_graphs_own(graph: tuple[str, Path]) -> None:
    precision, path = graph
    model = onnx.load(str(path)).graph
    types = {tensor.name: tensor.data_type for tensor in model.initializer}
    weights = [types.get(name) for node in model.node if node.op_type in ("Conv", "Gemm") for name in node.input[1:]]
    if precision == "int8":
        check_quantization(model)
    else:
        wanted = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
        assert weights
        assert set(weights) == {wanted[precision]}


def check_quantization(model: Any) -> None:
    """What TensorRT asks for: symmetric, weights a channel each, and in front of the weighted operators alone."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.initializer}
    makers = {node.output[0]: node for node in model.node}
    # Every calibration image counts, the first as much as the last.
    np.testing.assert_allclose(arrays[f"{NETWORK_INPUT}_scale"], images().abs().max() / 127, rtol=0.01)
    quantizers = [node for node in model.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in quantizers:
        assert arrays[node.input[2]].dtype == np.int8
        assert not arrays[node.input[2]].any()
    for node in [node for node in model.node if node.op_type in ("Conv", "Gemm")]:
        pixels, weights = (makers[name] for name in node.input[:2])
        assert pixels.op_type == weights.op_type == "DequantizeLinear"
        assert arrays[pixels.input[1]].shape == ()
        assert arrays[weights.input[1]].shape == (arrays[makers[weights.input[0]].input[0]].shape[0],)
        assert arrays[node.input[2]].dtype == np.float32
        followers = [other.op_type for other in model.node if node.output[0] in other.input]
        assert "QuantizeLinear" not in followers


# The Python builder, held to the real bindings


@pytest.fixture(scope="module", params=[10, 11])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not bindings.folder(request.param).is_dir() or not which("gcc"):
        pytest.fail(f"needs gcc and {bindings.folder(request.param)}; run: make test")
    found = bindings.dump(request.param, tmp_path_factory.mktemp("bindings"))
    assert found["version"].startswith(f"{request.param}.")
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


ANSWERS: dict[str, Any] = {
    "Builder.build_serialized_network": b"a plan",
    "ITimingCache.serialize": b"timings",
    "OnnxParser.num_errors": 0,
}


def order(folder: Path, **changes: Any) -> plans.PlanOrder:
    sizes = (profiles.Profile(NETWORK_INPUT, (1, *SHAPE), (4, *SHAPE), (8, *SHAPE)),)
    values = {"graph": folder / "model.onnx", "plan": folder / "model.plan", "profiles": sizes}
    return plans.PlanOrder(**(values | {"workspace_mib": 256, "gpu": "NVIDIA H100"} | changes))


def test_python_builder(real: dict[str, Any], tmp_path: Path) -> None:
    fake = bindings.FakeTensorRT(real, ANSWERS)
    assert plans.build(order(tmp_path), fake) == real["version"]
    assert (tmp_path / "model.plan").read_bytes() == b"a plan"
    flag = real["classes"]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    assert fake.called("Builder.create_network") == [(1 << flag,)]
    assert fake.called("OnnxParser.parse_from_file") == [(str(tmp_path / "model.onnx"),)]
    shapes = ((1, *SHAPE), (4, *SHAPE), (8, *SHAPE))
    assert fake.called("IOptimizationProfile.set_shape") == [(NETWORK_INPUT, *shapes)]
    assert len(fake.called("IBuilderConfig.add_optimization_profile")) == 1
    pool = real["classes"]["MemoryPoolType"]["WORKSPACE"]
    assert fake.called("IBuilderConfig.set_memory_pool_limit") == [(pool, 256 * 1024 * 1024)]
    assert fake.called("IBuilderConfig.set_flag") == []


def test_timings_are_kept_for_the_next_build(real: dict[str, Any], tmp_path: Path, cache: Path) -> None:
    fake = bindings.FakeTensorRT(real, ANSWERS)
    plans.build(order(tmp_path), fake)
    (file,) = cache.rglob("*.cache")
    assert file == cache / "build-repo" / "tensorrt" / f"{real['version']}-NVIDIA-H100.cache"
    plans.build(order(tmp_path), fake)
    plans.build(order(tmp_path, gpu="another"), fake)
    assert fake.called("IBuilderConfig.create_timing_cache") == [(b"",), (b"timings",), (b"",)]


@pytest.mark.parametrize("refused", [{"create_timing_cache": None}, {"set_timing_cache": False}])
def test_foreign_timings_are_left_out(real: dict[str, Any], tmp_path: Path, refused: dict[str, Any]) -> None:
    kept = plans.cache_file(real["version"], "NVIDIA H100")
    plans.save_cache(kept, b"broken")
    fake = bindings.FakeTensorRT(real, ANSWERS | {f"IBuilderConfig.{name}": value for name, value in refused.items()})
    plans.build(order(tmp_path), fake)
    assert fake.called("IBuilderConfig.create_timing_cache") == [(b"broken",), (b"",)]
    assert len(fake.called("Builder.build_serialized_network")) == 1


def test_cache_that_cannot_be_written(real: dict[str, Any], tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file in the folder's place")
    plans.build(order(tmp_path), bindings.FakeTensorRT(real, ANSWERS))
    assert (tmp_path / "model.plan").exists()


def test_parser_errors_are_all_told(real: dict[str, Any], tmp_path: Path) -> None:
    said = iter(["no such operator", "nor this one"])
    errors = {"OnnxParser.parse_from_file": False, "OnnxParser.num_errors": 2, "ParserError.desc": lambda: next(said)}
    with pytest.raises(ExportError, match="cannot read the ONNX graph: no such operator; nor this one"):
        plans.build(order(tmp_path), bindings.FakeTensorRT(real, ANSWERS | errors))


def test_failed_build_tells_what_tensorrt_logged(real: dict[str, Any], tmp_path: Path) -> None:
    severities = real["classes"]["ILogger"]

    def fail(*_: Any) -> None:
        log = fake.called("Builder.__init__")[0][0]
        log.log(severities["WARNING"], "never mind")
        log.log(severities["ERROR"], "no tactic fits into the workspace")

    fake = bindings.FakeTensorRT(real, ANSWERS | {"Builder.build_serialized_network": fail})
    with pytest.raises(ExportError, match=r"cannot build the plan: no tactic fits into the workspace$"):
        plans.build(order(tmp_path), fake)
    assert not (tmp_path / "model.plan").exists()


def test_profile_that_tensorrt_refuses(real: dict[str, Any], tmp_path: Path) -> None:
    fake = bindings.FakeTensorRT(real, ANSWERS | {"IBuilderConfig.add_optimization_profile": -1})
    with pytest.raises(ExportError, match=r"refuses `INPUT__0` of \[1, 3, 32, 32\] to \[8, 3, 32, 32\], optimum \[4"):
        plans.build(order(tmp_path), fake)


def context_of(fake: bindings.FakeTensorRT) -> Any:
    engine = fake.Runtime(None).deserialize_cuda_engine(b"a plan")
    return engine.create_execution_context()


def test_plan_is_run_on_the_tensors_themselves(real: dict[str, Any]) -> None:
    def double(_: int) -> bool:
        (_, source), (_, target) = fake.called("IExecutionContext.set_tensor_address")
        pixels = (ctypes.c_float * 6).from_address(source)
        (ctypes.c_float * 6).from_address(target)[:] = [2 * value for value in pixels]
        return True

    answers = {"IExecutionContext.get_tensor_shape": (2, 3), "IExecutionContext.execute_async_v3": double}
    fake = bindings.FakeTensorRT(real, answers)
    batch = torch.arange(6.0).reshape(3, 2).T  # not contiguous
    found = plans.execute(context_of(fake), {NETWORK_INPUT: batch}, SIGNATURE, 7)
    assert torch.equal(found[NETWORK_OUTPUT], 2 * batch)
    assert fake.called("IExecutionContext.set_input_shape") == [(NETWORK_INPUT, (2, 3))]
    assert fake.called("IExecutionContext.execute_async_v3") == [(7,)]
    assert [name for name, _ in fake.called("IExecutionContext.set_tensor_address")] == [NETWORK_INPUT, NETWORK_OUTPUT]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("set_input_shape", r"takes no `INPUT__0` of \[2, 3\]"),
        ("execute_async_v3", r"failed on `INPUT__0` of \[2, 3\]"),
    ],
)
def test_plan_that_refuses_a_batch(real: dict[str, Any], method: str, message: str) -> None:
    answers = {"IExecutionContext.get_tensor_shape": (2, 3), f"IExecutionContext.{method}": False}
    context = context_of(bindings.FakeTensorRT(real, answers))
    with pytest.raises(ExportError, match=message):
        plans.execute(context, {NETWORK_INPUT: torch.zeros(2, 3)}, SIGNATURE, 0)


def test_plan_that_does_not_load(real: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"of another version")
    fake = bindings.FakeTensorRT(real, {"Runtime.deserialize_cuda_engine": None})
    with pytest.raises(ExportError, match="cannot load the plan"):
        plans.load(tmp_path / "model.plan", fake, SIGNATURE)


def test_fake_refuses_what_tensorrt_has_not(real: dict[str, Any]) -> None:
    fake = bindings.FakeTensorRT(real)
    with pytest.raises(AttributeError):
        _ = fake.Builder(None).max_workspace_size
    with pytest.raises(TypeError):
        fake.Builder(None).create_network(1, 2)


# The served runtime


RUNTIME = bindings.ROOT / "builder" / "runtimes" / "tensorrt" / "model.py"
HELD = {"_runtime": "Runtime", "_engine": "ICudaEngine", "_context": "IExecutionContext"}


def test_runtime_uses_what_the_bindings_have(real: dict[str, Any]) -> None:
    used = {ast.unparse(node) for node in ast.walk(ast.parse(RUNTIME.read_text())) if isinstance(node, ast.Attribute)}
    parts = [name.split(".") for name in sorted(used)]
    of_module = [name for root, *name in parts if root == "tensorrt" and name != ["__version__"]]
    of_objects = [[HELD[name[0]], *name[1:]] for root, *name in parts if root == "self" and name[0] in HELD]
    assert len(of_module) + len(of_objects) > 8
    for name in (*of_module, *of_objects):
        found = real["classes"]
        for part in name:
            found = found[part]


PROBE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
config = {"cc_model_filenames": {"9.0": "model-9.0.plan", "8.9": "model-8.9.plan"}}
print(model.plan_filename(config, "8.9"))
for unknown in (config, {}):
    try:
        model.plan_filename(unknown, "12.0")
    except model.pb_utils.TritonModelException as error:
        print(error)
try:
    model.TritonPythonModel().initialize({"model_instance_kind": "CPU", "model_config": "{}"})
except model.pb_utils.TritonModelException as error:
    print(error)
"""


def test_runtime_finds_the_plan_of_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("")
    (tmp_path / "triton_python_backend_utils.py").write_text("class TritonModelException(Exception): pass\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(RUNTIME.parents[1])])}
    command = [sys.executable, "-c", PROBE, str(RUNTIME)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=240)
    assert run.stdout.splitlines() == [
        "model-8.9.plan",
        "there is no plan for GPUs of compute capability 12.0; there are plans for 8.9, 9.0",
        "there is no plan for GPUs of compute capability 12.0; there are plans for none",
        "TensorRT plans run on GPUs alone; KIND_GPU is needed",
    ]


# trtexec in Docker


@given(
    st.integers(1, 1024),
    st.integers(0, 1023),
    st.tuples(st.integers(1, 4), st.integers(1, 999), st.integers(1, 999)),
    st.integers(16, 99999),
)
def test_build_command(optimum: int, more: int, shape: tuple[int, ...], workspace: int) -> None:
    largest = optimum + more
    sizes = profiles.Profile(NETWORK_INPUT, (1, *shape), (optimum, *shape), (largest, *shape))
    command = trtexec.build_command(order(Path("/elsewhere"), profiles=(sizes,), workspace_mib=workspace))
    options = dict(part.removeprefix("--").partition("=")[::2] for part in command[1:])
    assert command[0] == "/usr/src/tensorrt/bin/trtexec"
    assert not any("/elsewhere" in part for part in command)
    image = "x".join(map(str, shape))
    assert options == {
        "onnx": "/build/model.onnx",
        "saveEngine": "/build/model.plan",
        "stronglyTyped": "",
        "minShapes": f"{NETWORK_INPUT}:1x{image}",
        "optShapes": f"{NETWORK_INPUT}:{optimum}x{image}",
        "maxShapes": f"{NETWORK_INPUT}:{largest}x{image}",
        "memPoolSize": f"workspace:{workspace}",
        "timingCacheFile": "/build/timings.cache",
        "skipInference": "",
        "noTF32": "",
    }


LOG = "[I] TensorRT version: 11.1.0\n&&&& PASSED TensorRT.trtexec [TensorRT v110100] [b42]\n"


class FakeDocker:
    """A Docker client whose engine runs `work(folder, command)`, which gives (status, log)."""

    def __init__(self, work: Callable[[Path, list[str]], tuple[int, str]], **raises: BaseException) -> None:
        self.work, self.raises, self.info_ = work, raises, {"SecurityOptions": ["name=seccomp"]}
        self.left: dict[str, Any] = {}
        self.is_closed = False
        self.created: list[tuple[str, list[str], dict[str, Any]]] = []
        self.containers = SimpleNamespace(create=self._create, get=lambda name: self.left[name])

    def close(self) -> None:
        self.is_closed = True

    def info(self) -> dict[str, Any]:
        return self.info_

    def _create(self, image: str, command: list[str], *, name: str, **options: Any) -> Any:
        if error := self.raises.get("create"):
            self.left[name] = SimpleNamespace(remove=lambda **_: self.left.pop(name))
            raise error
        self.created.append((image, command, options))
        self.left[name] = FakeContainer(self, name, command, options)
        return self.left[name]


class FakeContainer:
    def __init__(self, engine: FakeDocker, name: str, command: list[str], options: dict[str, Any]) -> None:
        self.engine, self.name, self.command = engine, name, command
        (self.folder,) = options["volumes"]
        self.status, self.log = 0, ""

    def start(self) -> None:
        if error := self.engine.raises.get("start"):
            raise error
        self.status, self.log = self.engine.work(Path(self.folder), self.command)

    def wait(self, timeout: float | None) -> dict[str, int]:
        assert timeout is None  # building takes as long as it takes
        if error := self.engine.raises.get("wait"):
            raise error
        return {"StatusCode": self.status}

    def logs(self) -> bytes:
        return self.log.encode() + b"\xff"

    def remove(self, force: bool) -> None:
        assert force
        del self.engine.left[self.name]


def option(command: list[str], name: str) -> str:
    return next(part.partition("=")[2] for part in command if part.startswith(f"--{name}="))


def builds(folder: Path, command: list[str]) -> tuple[int, str]:
    assert (folder / Path(option(command, "onnx")).name).is_file()
    (folder / Path(option(command, "saveEngine")).name).write_bytes(b"a plan")
    cache = folder / Path(option(command, "timingCacheFile")).name
    cache.write_bytes(cache.read_bytes() + b"+")
    return 0, LOG


def tools(engine: FakeDocker) -> tensorrt.Tools:
    return tensorrt.Tools(gpu=lambda: H100, tensorrt=lambda: None, docker=lambda: engine)


def settings(**changes: Any) -> PlanSettings:
    return PlanSettings.model_validate({"image": IMAGE} | changes)


def test_trtexec_builds_in_a_container_of_its_own(tmp_path: Path) -> None:
    engine = FakeDocker(builds)
    version = tmp_path / "version"
    version.mkdir()
    wanted = request(version / "model.plan", settings=settings(optimum_batch_size=2))
    assert tensorrt.export(wanted, tools(engine)) == {
        "tensorrt_version": "11.1.0",
        "plan_builder": f"trtexec {IMAGE}",
        "gpu": "NVIDIA H100",
        "compute_capability": "9.0",
        "driver": "580.95",
        "optimum_batch_size": "2",
        "opset": "18",
    }
    assert [file.name for file in version.iterdir()] == ["model.plan"]
    assert engine.left == {}
    assert engine.is_closed
    ((image, command, options),) = engine.created
    assert image == IMAGE
    assert option(command, "optShapes") == f"{NETWORK_INPUT}:2x3x32x32"
    ((folder, mount),) = options["volumes"].items()
    assert Path(folder).parent == version
    assert mount == {"bind": "/build", "mode": "rw"}
    assert options["network_disabled"] is True
    assert options["user"] == f"{os.getuid()}:{os.getgid()}"
    (device,) = options["device_requests"]
    assert (device["DeviceIDs"], device["Capabilities"]) == (["GPU-0123"], [["gpu"]])


def test_trtexecs_timings_are_kept(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    for _ in range(2):
        trtexec.build(order(tmp_path), IMAGE, "GPU-0", lambda: FakeDocker(builds))
    assert plans.cache_file(IMAGE, "NVIDIA H100").read_bytes() == b"++"


def test_root_of_a_rootless_engine_is_the_caller(tmp_path: Path) -> None:
    engine = FakeDocker(builds)
    engine.info_ = {"SecurityOptions": ["name=rootless"]}
    (tmp_path / "model.onnx").touch()
    trtexec.build(order(tmp_path), IMAGE, "GPU-0", lambda: engine)
    assert engine.created[0][2]["user"] == "0:0"


def api_error(explanation: str) -> APIError:
    return APIError("500 Server Error", explanation=explanation)


REFUSED = {
    "image": ({"create": ImageNotFound("404")}, f"not on this machine; run: docker pull {IMAGE}"),
    "runtime": (
        {"start": api_error('could not select device driver "" with capabilities: [[gpu]]')},
        "Docker cannot give a container the GPU: .* install the NVIDIA Container Toolkit",
    ),
    "engine": ({"start": api_error("no space left on device")}, "engine refused to run trtexec: .*no space left"),
    "gone": ({"wait": ConnectionError("connection reset")}, "engine refused to run trtexec: connection reset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_engine_refuses(case: str, tmp_path: Path) -> None:
    raises, message = REFUSED[case]
    engine = FakeDocker(builds, **raises)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ExportError, match=message):
        trtexec.build(order(tmp_path), IMAGE, "GPU-0", lambda: engine)
    assert engine.left == {}


@pytest.mark.parametrize("moment", ["create", "start", "wait"])
def test_ctrl_c_leaves_no_container(moment: str, tmp_path: Path) -> None:
    engine = FakeDocker(builds, **{moment: KeyboardInterrupt()})
    (tmp_path / "model.onnx").touch()
    with pytest.raises(KeyboardInterrupt):
        trtexec.build(order(tmp_path), IMAGE, "GPU-0", lambda: engine)
    assert engine.left == {}


def test_trtexec_that_fails_is_quoted(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(100)]
    engine = FakeDocker(lambda *_: (1, "\n".join(lines)))
    with pytest.raises(ExportError, match="failed with status 1; it said:\nline 8") as caught:
        trtexec.build(order(tmp_path), IMAGE, "GPU-0", lambda: engine)
    assert "line 99" in str(caught.value)
    assert "line 80" not in str(caught.value)
    assert engine.left == {}


def test_trtexec_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="wrote no plan; it said:\nall is well"):
        trtexec.build(order(tmp_path), IMAGE, "GPU-0", lambda: FakeDocker(lambda *_: (0, "all is well")))


@pytest.mark.parametrize(
    ("log", "image", "version"),
    [
        (LOG, "any", "11.1.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101601] [b1]", "any", "10.16.1"),
        ("nothing", "registry/nvidia/tritonserver:26.08-py3", "11.2.1"),
        ("nothing", "of-my-own:latest", "unknown"),
    ],
)
def test_version_of(log: str, image: str, version: str) -> None:
    assert trtexec.version_of(log, image) == version


def runs(folder: Path, command: list[str]) -> tuple[int, str]:
    """What trtexec would do with a plan that doubles its first three values."""
    assert (folder / Path(option(command, "loadEngine")).name).read_bytes() == b"a plan"
    name, _, shape = option(command, "shapes").partition(":")
    size = [int(part) for part in shape.split("x")]
    source = option(command, "loadInputs").removeprefix(f"{name}:")
    pixels = np.fromfile(folder / Path(source).name, dtype=np.float32).reshape(size)
    rows = pixels.reshape(size[0], -1)[:, :3] * 2
    tensors = [{"name": NETWORK_OUTPUT, "dimensions": f"{size[0]}x3", "values": rows.ravel().tolist()}]
    (folder / Path(option(command, "exportOutput")).name).write_text(json.dumps(tensors))
    return 0, LOG


@pytest.mark.parametrize("batch", [1, 4])
def test_plan_is_read_back_by_trtexec(batch: int, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"a plan")
    engine = FakeDocker(runs)
    target = Target(device="gpu", options=settings())
    predict = tensorrt.load(tmp_path / "model.plan", target, SIGNATURE, tools(engine))
    pixels = images(batch)
    assert torch.equal(predict({NETWORK_INPUT: pixels})[NETWORK_OUTPUT], pixels.reshape(batch, -1)[:, :3] * 2)
    assert engine.created[0][0] == IMAGE
    assert [file.name for file in tmp_path.iterdir()] == ["model.plan"]


# Several inputs, of sizes that are not known


def texts(batch: int = 2, length: int = 6) -> dict[str, torch.Tensor]:
    ids = torch.arange(batch * length).reshape(batch, length)
    return {"ids": ids, "in:mask": torch.ones_like(ids), "scale": torch.rand(batch, 3)}


def sizes(signature: Signature = TEXTS, **changes: Any) -> tuple[profiles.Profile, ...]:
    target = Target("fp32", "gpu", max_batch_size=8, options=PlanSettings.model_validate(changes))
    asked = ExportRequest(nn.Identity(), signature, texts(), Path("model.plan"), target)
    return profiles.of(asked, target.options)  # type: ignore[arg-type]


def test_plans_take_what_is_said_or_four_times_the_samples() -> None:
    ids, mask, scale = sizes(optimum_batch_size=4, max_shapes={"in:mask": [4]}, min_shapes={"ids": [7]})
    assert ids.shapes == ((1, 7), (4, 7), (8, 28))
    assert mask.shapes == ((1, 1), (4, 4), (8, 4))
    assert scale.shapes == ((1, 3), (4, 3), (8, 3))
    assert sizes(optimum_shapes={"ids": [100]})[0].shapes == ((1, 1), (8, 100), (8, 400))


def test_plans_take_as_many_tokens_as_the_task_says_unless_the_entry_says_otherwise() -> None:
    target = Target("fp32", "gpu", max_batch_size=8)
    asked = ExportRequest(nn.Identity(), TEXTS, texts(), Path("model.plan"), target, largest={"ids": (64,)})
    length = texts()["ids"].shape[1]
    assert profiles.of(asked, PlanSettings())[0].shapes == ((1, 1), (8, length), (8, 64))
    said = PlanSettings.model_validate({"max_shapes": {"ids": [9]}})
    assert profiles.of(asked, said)[0].shapes == ((1, 1), (8, min(9, length)), (8, 9))


def test_plans_without_a_batch() -> None:
    alone = replace(TEXTS, batched=False, inputs=(TensorSpec("ids", "INT64", (2, -1)),))
    assert [each.shapes for each in sizes(alone)] == [((2, 1), (2, 6), (2, 24))]
    assert sizes(replace(alone, inputs=(TensorSpec("ids", "INT64", (2, 6)),))) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_shapes": {"id": [9]}}, "max_shapes: `id` is no input; they are ids, in:mask, scale"),
        ({"min_shapes": {"ids": [1, 9]}}, "min_shapes: `ids` has 1 sizes, without the batch"),
        ({"optimum_shapes": {"ids": [9]}, "max_shapes": {"ids": [8]}}, r"the optimum \[9\] is not between"),
    ],
)
def test_sizes_that_contradict(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        sizes(**changes)


def test_python_builder_has_a_profile_for_all_inputs(real: dict[str, Any], tmp_path: Path) -> None:
    fake = bindings.FakeTensorRT(real, ANSWERS)
    plans.build(order(tmp_path, profiles=sizes()), fake)
    assert [name for name, *_ in fake.called("IOptimizationProfile.set_shape")] == ["ids", "in:mask", "scale"]
    assert len(fake.called("IBuilderConfig.add_optimization_profile")) == 1
    plans.build(order(tmp_path, profiles=()), fake)
    assert len(fake.called("IBuilderConfig.add_optimization_profile")) == 1


def test_plan_of_several_tensors_is_run(real: dict[str, Any]) -> None:
    shapes = {"hidden": (2, 6, 8), "best": (2,)}

    def fill(_: int) -> bool:
        addresses = dict(fake.called("IExecutionContext.set_tensor_address"))
        (ctypes.c_int64 * 2).from_address(addresses["best"])[:] = [2**40, -1]
        return True

    answers = {"IExecutionContext.get_tensor_shape": shapes.get, "IExecutionContext.execute_async_v3": fill}
    fake = bindings.FakeTensorRT(real, answers)
    found = plans.execute(context_of(fake), texts(), TEXTS, 7)
    assert found["best"].tolist() == [2**40, -1]
    assert found["hidden"].shape == (2, 6, 8)
    assert dict(fake.called("IExecutionContext.set_input_shape")) == {"ids": (2, 6), "in:mask": (2, 6), "scale": (2, 3)}


def test_plan_whose_sizes_depend_on_what_it_computes(real: dict[str, Any]) -> None:
    fake = bindings.FakeTensorRT(real, {"IExecutionContext.get_tensor_shape": (-1, 8)})
    with pytest.raises(ExportError, match="the sizes of `hidden` depend on what is computed"):
        plans.execute(context_of(fake), texts(), TEXTS, 7)


def test_trtexec_is_told_of_all_inputs() -> None:
    command = trtexec.build_command(order(Path("/elsewhere"), profiles=sizes()))
    assert option(command, "maxShapes") == "ids:8x24,'in:mask':8x24,scale:8x3"
    assert not [part for part in trtexec.build_command(order(Path(), profiles=())) if "Shapes" in part]


def echoes(folder: Path, command: list[str]) -> tuple[int, str]:
    """What trtexec would do with a plan that gives the ids of the first column."""
    assert option(command, "shapes") == "ids:2x6,'in:mask':2x6,scale:2x3"
    files = dict(part.rsplit(":", 1) for part in option(command, "loadInputs").split(","))
    ids = np.fromfile(folder / Path(files["ids"]).name, dtype=np.int64).reshape(2, 6)
    tensors = [
        {"name": "best", "dimensions": "2", "values": ids[:, 1].tolist()},
        {"name": "hidden", "dimensions": "2x1x8", "values": [0.5] * 16},
    ]
    (folder / Path(option(command, "exportOutput")).name).write_text(json.dumps(tensors))
    return 0, LOG


def test_several_tensors_are_read_back_by_trtexec(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"a plan")
    target = Target(device="gpu", options=settings())
    found = tensorrt.load(tmp_path / "model.plan", target, TEXTS, tools(FakeDocker(echoes)))(texts())
    assert list(found) == ["hidden", "best"]
    assert (found["best"].dtype, found["best"].tolist()) == (torch.int64, [1, 7])
    assert found["hidden"].shape == (2, 1, 8)


def test_optimum_beyond_the_largest_batch_is_objected_to() -> None:
    assert tensorrt.objection(PlanSettings(optimum_batch_size=9), 8) == (
        "the largest batch is 8, see max_batch_size",
        "optimum_batch_size",
    )
    assert tensorrt.objection(PlanSettings(optimum_batch_size=8), 8) is None
    assert tensorrt.objection(None, 8) is None


# Which builder, and what is missing


def test_python_is_preferred(real: dict[str, Any], tmp_path: Path) -> None:
    fake = bindings.FakeTensorRT(real, ANSWERS)
    engine = FakeDocker(builds)
    both = tensorrt.Tools(gpu=lambda: H100, tensorrt=lambda: fake, docker=lambda: engine)
    facts = tensorrt.export(request(tmp_path / "model.plan", "fp16"), both)
    assert (facts["plan_builder"], facts["tensorrt_version"]) == ("python", real["version"])
    assert facts["optimum_batch_size"] == "8"
    assert not engine.created
    (tmp_path / "model.plan").unlink()
    asked = request(tmp_path / "model.plan", settings=settings(builder="trtexec"))
    assert tensorrt.export(asked, both)["plan_builder"] == f"trtexec {IMAGE}"


def no_docker() -> Any:
    raise ExportError("no Docker engine answers")


NOTHING = tensorrt.Tools(gpu=lambda: None, tensorrt=lambda: None, docker=no_docker)
GPU_WORDS, PYTHON_WORDS, DOCKER_WORDS = "an NVIDIA GPU", "package tensorrt", "a Docker engine, for the trtexec of"


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        ("auto", [GPU_WORDS, PYTHON_WORDS, DOCKER_WORDS, "no Docker engine answers"]),
        ("python", [GPU_WORDS, PYTHON_WORDS]),
        ("trtexec", [GPU_WORDS, DOCKER_WORDS]),
    ],
)
def test_refusal_names_all_that_is_missing(builder: str, words: list[str], tmp_path: Path) -> None:
    target = Target(device="gpu", options=settings(builder=builder))
    message = tensorrt.refusal(target, NOTHING)
    assert [word for word in (GPU_WORDS, PYTHON_WORDS, DOCKER_WORDS) if word in message] == words[:3]
    assert all(word in message for word in words)
    with pytest.raises(ExportError, match=GPU_WORDS):
        tensorrt.export(request(tmp_path / "model.plan", settings=target.options), NOTHING)


def test_nothing_is_refused_where_all_is_there() -> None:
    assert tensorrt.refusal(Target(device="gpu"), tools(FakeDocker(builds))) == ""
    with_tensorrt = tensorrt.Tools(gpu=lambda: H100, tensorrt=lambda: object(), docker=no_docker)
    assert tensorrt.refusal(Target(device="gpu"), with_tensorrt) == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_this_machine_is_refused() -> None:
    assert GPU_WORDS in tensorrt.refusal(Target(device="gpu"), tensorrt.Tools(docker=no_docker))


def from_cause(cause: BaseException) -> Callable[[], Any]:
    """As the Docker SDK wraps what its sockets raise: among the arguments of requests' exceptions."""

    def make() -> Any:
        try:
            raise ConnectionError(RuntimeError("Connection aborted.", cause))
        except ConnectionError as error:
            raise DockerException("Error while fetching server API version") from error

    return make


def test_engine_that_may_not_be_used() -> None:
    with pytest.raises(EngineError, match="sudo usermod -aG docker"):
        docker.reached(from_cause(PermissionError(13, "Permission denied")))


def test_engine_that_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"no Docker engine answers .* sudo systemctl start docker"):
        docker.reached(from_cause(FileNotFoundError(2, "No such file or directory")))


def test_engine_that_answers() -> None:
    client = SimpleNamespace(ping=lambda: True)
    assert docker.reached(lambda: client) is client


CONNECT = """
import sys
from builder.exporters import trtexec
if sys.argv[1] == "without":
    sys.modules["docker"] = None
try:
    trtexec.connect()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("with", "ExportError no Docker engine answers"),
        ("without", "ExportError the Python package docker is not installed; run: pip install"),
    ],
)
def test_real_client_without_an_engine(package: str, message: str, tmp_path: Path) -> None:
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path / 'no.sock'}", "PYTHONPATH": str(bindings.ROOT)}
    command = [sys.executable, "-c", CONNECT, package]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=240)
    assert run.stdout.startswith(message)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", tensorrt.PRECISIONS["gpu"])
def test_on_a_gpu(precision: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    wanted = request(tmp_path / "model.plan", precision)
    tensorrt.export(wanted)
    predict = tensorrt.load(tmp_path / "model.plan", wanted.target, SIGNATURE)
    for batch in (1, 5, 8):
        with torch.no_grad():
            expected = network()(images(batch))
        found = predict({NETWORK_INPUT: images(batch)})[NETWORK_OUTPUT]
        torch.testing.assert_close(found, expected, atol=5e-2, rtol=0)

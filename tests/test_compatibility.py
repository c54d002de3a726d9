"""A server refuses, before it starts, what it could not load; each reason with its remedy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from published import publish_model, publish_plan

from builder.errors import LaunchError
from builder.launchers import LAUNCHERS
from builder.launchers.compatibility import Machine, refuse_unloadable
from builder.launchers.options import LaunchOptions
from builder.machine.hardware import Gpu

H100 = Gpu("NVIDIA H100", "9.0", "580.95")
L4 = Gpu("NVIDIA L4", "8.9", "580.95")


def machine(**changes: Any) -> Machine:
    """One that can load everything that is published below."""
    values = {
        "is_installed": True,
        "torch_version": "2.14.1+cu130",
        "tensorrt_version": "10.16.1.11",
        "instruction_sets": frozenset({"avx2", "fma", "avx512f"}),
        "gpu": H100,
    } | changes
    answers = {name: (lambda *_, value=value: value) for name, value in values.items()}
    return Machine(**answers)


def plan(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: publish_plan(folder, **changes)


def package(**facts: str) -> Callable[[Path], None]:
    """An AOTInductor package."""
    recorded = {"torch_version": "2.14.1"} | facts
    values = {"backend": "pytorch", "platform": "torch_aoti", "filename": "model.pt2", "files": {"model.pt2": b""}}
    return lambda folder: publish_model(folder, facts=recorded, device="cpu", **values)


def other(backend: str) -> Callable[[Path], None]:
    return lambda folder: publish_model(folder, backend=backend, filename="model", facts={}, device="cpu")


LOADABLE = {
    "plan": plan(),
    "plan of trtexec": plan(facts={"tensorrt_version": "10.16.1"}),
    "package for AVX512": package(instruction_sets="avx2 avx512f"),
    "package for AVX2": package(instruction_sets="avx2", torch_version="2.14.1+cpu"),
    "package for the GPU": package(compute_capability="9.0", gpu="NVIDIA H200"),
    "openvino": other("openvino"),
    "onnxruntime": other("onnxruntime"),
    "plan alone": plan(alone=True),
}


@pytest.mark.parametrize("case", LOADABLE)
def test_loadable(case: str, tmp_path: Path) -> None:
    LOADABLE[case](tmp_path / "repository")
    refuse_unloadable(tmp_path / "repository", machine())


REFUSED: dict[str, tuple[Callable[[Path], None], dict[str, Any], list[str]]] = {
    "no GPU": (plan(), {"gpu": None}, ["m_tensorrt", "compute capability 9.0", "there is no GPU"]),
    "another GPU": (plan(), {"gpu": L4}, ["capability 9.0", "this NVIDIA L4 has 8.9", "build-repo merge"]),
    "no tensorrt": (
        plan(facts={"tensorrt_version": "11.1.0"}),
        {"tensorrt_version": None},
        ["tensorrt is not installed", "pip install 'tensorrt==11.1.0.*'", "tritonserver:26.07-py3, which has"],
    ),
    "another tensorrt": (
        plan(),
        {"tensorrt_version": "11.4.0.106"},
        ["plans are of TensorRT 10.16.1.11, and 11.4.0.106 is", "'tensorrt==10.16.1.11'", "tritonserver:26.04-py3"],
    ),
    "near tensorrt": (
        plan(facts={"tensorrt_version": "11.1.7.2"}),
        {},
        ["an image of TensorRT 11.1.7.2; the nearest known, tritonserver:26.07-py3, has 11.1.0"],
    ),
    "unknown tensorrt": (plan(facts={"tensorrt_version": "9.3.0"}), {}, ["none of those known has it"]),
    "all of it": (plan(), {"gpu": None, "tensorrt_version": None}, ["there is no GPU", "tensorrt is not installed"]),
    "another torch": (
        package(torch_version="2.13.0+cpu"),
        {},
        ["compiled against PyTorch 2.13.0+cpu, and 2.14.1+cu130 is", "pip install torch==2.13.0,"],
    ),
    "no torch": (package(), {"torch_version": None}, ["PyTorch is not installed", "pip install torch==2.14.1"]),
    "lesser CPU": (
        package(instruction_sets="avx2 avx512f avx512_vnni"),
        {"instruction_sets": frozenset({"avx2"})},
        ["for a CPU with avx512_vnni, avx512f, which this one has not"],
    ),
    "no GPU for it": (package(compute_capability="9.0"), {"gpu": None}, ["capability 9.0, and there is no GPU"]),
    "other GPU for it": (package(compute_capability="9.0"), {"gpu": L4}, ["and this NVIDIA L4 has 8.9"]),
    "no openvino": (other("openvino"), {"is_installed": False}, ["pip install openvino"]),
    "alone": (plan(alone=True), {"gpu": L4}, ["m cannot be served here", "this NVIDIA L4 has 8.9"]),
    "no onnxruntime": (other("onnxruntime"), {"is_installed": False}, ["pip install onnxruntime"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    publish, changes, words = REFUSED[case]
    publish(tmp_path / "repository")
    with pytest.raises(LaunchError) as caught:
        refuse_unloadable(tmp_path / "repository", machine(**changes))
    assert [word for word in words if word not in str(caught.value)] == []


SETS = st.frozensets(st.sampled_from(["sse4_2", "avx2", "fma", "avx512f", "amx_tile"]))


@given(SETS, SETS)
def test_a_cpu_must_have_all_that_was_compiled_for(
    tmp_path_factory: pytest.TempPathFactory, found: frozenset[str], needed: frozenset[str]
) -> None:
    repository = tmp_path_factory.mktemp("cpu") / "repository"
    package(instruction_sets=" ".join(needed))(repository)
    try:
        refuse_unloadable(repository, machine(instruction_sets=found))
    except LaunchError:
        assert not needed <= found
    else:
        assert needed <= found


def test_steps_have_what_they_import(tmp_path: Path) -> None:
    """pip's name of a package need not be the module's, so that it is asked for as pip has it."""
    repository = tmp_path / "repository"
    publish_model(repository, "m", backend="onnxruntime", filename="m", facts={}, device="cpu", steps=["preprocess_1"])
    config = repository / "preprocess_1" / "config.pbtxt"
    said = 'parameters { key: "requirements" value { string_value: "pillow tokenizers==0.1.2" } }'
    config.write_text(config.read_text() + said)
    refuse_unloadable(repository, machine())
    with pytest.raises(LaunchError, match=r"preprocess_1 cannot .* tokenizers, .*pip install tokenizers==0.1.2$"):
        refuse_unloadable(repository, replace(machine(), has_package=lambda name: name != "tokenizers"))


def test_every_unloadable_network_is_named(tmp_path: Path) -> None:
    publish_plan(tmp_path / "repository", "one")
    publish_plan(tmp_path / "repository", "two")
    with pytest.raises(LaunchError, match=r"(?s)one_tensorrt cannot .*\ntwo_tensorrt cannot "):
        refuse_unloadable(tmp_path / "repository", machine(gpu=L4))


def fail(*_: object) -> Any:
    raise AssertionError("asked for nothing")


def test_only_what_matters_is_asked(tmp_path: Path) -> None:
    """PyTorch takes seconds to import, and a server of other formats need not have it."""
    other("openvino")(tmp_path / "repository")
    (tmp_path / "repository" / "by_hand").mkdir()
    (tmp_path / "repository" / "by_hand" / "config.pbtxt").write_text("not a config {")
    (tmp_path / "repository" / "README.md").touch()
    refuse_unloadable(tmp_path / "repository", Machine(lambda _: True, fail, fail, fail, fail))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_the_launcher_asks(tmp_path: Path) -> None:
    publish_plan(tmp_path / "repository")
    with pytest.raises(LaunchError, match=r"m_tensorrt cannot be served here: .* there is no GPU"):
        LAUNCHERS["embedded"].launch(tmp_path / "repository", LaunchOptions(http_port=0, grpc_port=0, metrics_port=0))

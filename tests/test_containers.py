"""Which image serves a repository, and what goes into one, as far as no engine is needed to tell."""

from __future__ import annotations

import ast
import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import warm
from hypothesis import given
from hypothesis import strategies as st
from published import publish_model, publish_plan

from builder import containers
from builder.containers import choice, context, make, packages, resolving
from builder.containers.order import BASE_NAME, Order, labels
from builder.errors import ImageError, LaunchError, ModelLoadError, RepositoryError, ServerEnded
from builder.launchers import LAUNCHERS, access
from builder.launchers.docker_settings import ContainerOptions
from builder.launchers.options import LaunchOptions
from builder.machine.hardware import Gpu
from builder.repository.served import read_intact, read_repository, requirements
from builder.triton import releases
from builder.triton.advisories import CALLERS, EMBEDDED, open_in

H100 = Gpu("NVIDIA H100 80GB HBM3", "9.0", "580.95.05")
NEWEST = releases.newest()


def onnx(folder: Path, **facts: str) -> None:
    publish_model(
        folder, "o", backend="onnxruntime", filename="model.onnx", facts={"opset": "18"} | facts, device="cpu"
    )


def torchscript(version: str, device: str = "cpu") -> Callable[[Path], None]:
    facts = {"torch_version": version}
    return lambda folder: publish_model(folder, "t", backend="pytorch", filename="model.pt", facts=facts, device=device)


def package(version: str) -> Callable[[Path], None]:
    values = {"backend": "pytorch", "platform": "torch_aoti", "filename": "model.pt2", "files": {"model.pt2": b""}}
    return lambda folder: publish_model(folder, "p", facts={"torch_version": version}, device="cpu", **values)


def plan(version: str) -> Callable[[Path], None]:
    return lambda folder: publish_plan(folder, facts={"tensorrt_version": version})


CHOICES: dict[str, tuple[list[Callable[[Path], None]], str]] = {
    "ONNX alone": ([onnx], NEWEST.tag),
    "TorchScript of the newest PyTorch that an image has": ([torchscript("2.14.1")], NEWEST.tag),
    "TorchScript of an older PyTorch": ([torchscript("2.9.1")], NEWEST.tag),
    "a package of the very PyTorch": ([package("2.14.1")], "26.09"),
    "a package of an older PyTorch": ([package("2.13.0")], "26.07"),
    "a plan": ([plan("10.16.1.11")], "26.04"),
    "a plan and ONNX": ([plan("11.2.1"), onnx], "26.08"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choice(case: str, tmp_path: Path) -> None:
    publishers, tag = CHOICES[case]
    for publisher in publishers:
        publisher(tmp_path)
    chosen = choice.choose(read_repository(tmp_path), H100)
    assert chosen.release.tag == tag
    assert chosen.reasons
    assert any("loses wake-ups" in warning for warning in chosen.warnings) == (tag < releases.SOUND_BATCHER)
    told = [warning for warning in chosen.warnings if "published holes" in warning]
    assert bool(told) == bool(open_in(tag, CALLERS)) == (tag < "26.07")


REFUSALS: dict[str, tuple[list[Callable[[Path], None]], Gpu, str]] = {
    "newer PyTorch": ([torchscript("2.15.0")], H100, "t was written by PyTorch 2.15.0, and the image's older 2.14.0a0"),
    "package of no image's PyTorch": ([package("2.12.1")], H100, "p is an AOTInductor package"),
    "plan of no image's TensorRT": ([plan("10.3.0")], H100, "m has plans of TensorRT 10.3.0"),
    "two plans of two versions": (
        [plan("11.2.1"), lambda folder: publish_plan(folder, "n", facts={"tensorrt_version": "10.16.1"})],
        H100,
        "n has plans of TensorRT 10.16.1, and the image has 11.2.1",
    ),
    "old driver": (
        [plan("11.2.1")],
        Gpu("NVIDIA GeForce RTX 4090", "8.9", "570.10"),
        "driver 580 or newer, and 570.10",
    ),
    "a driver past its life": (
        [plan("11.2.1")],
        Gpu("NVIDIA H100", "9.0", "550.54"),
        "driver 580 or newer, and 550.54",
    ),
    "old GPU": ([torchscript("2.14.1", "gpu")], Gpu("Tesla V100", "7.0", "580.1"), "and this Tesla V100 has less"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_no_image_fits(case: str, tmp_path: Path) -> None:
    publishers, gpu, message = REFUSALS[case]
    for publisher in publishers:
        publisher(tmp_path)
    with pytest.raises(ImageError) as caught:
        choice.choose(read_repository(tmp_path), gpu)
    assert message in str(caught.value)
    assert all(image.tag in str(caught.value) for image in releases.RELEASES)
    assert "--image" in str(caught.value)


def test_long_term_drivers_will_do_on_data_centre_gpus(tmp_path: Path) -> None:
    publish_plan(tmp_path, facts={"tensorrt_version": "11.2.1"})
    old = Gpu("NVIDIA H100", "9.0", "570.86.15")
    assert choice.choose(read_repository(tmp_path), old).release.tag == "26.08"


def test_a_gpu_matters_only_to_models_that_need_one(tmp_path: Path) -> None:
    onnx(tmp_path)
    assert choice.choose(read_repository(tmp_path), Gpu("Quadro", "5.0", "390.1")).release == NEWEST


def test_default_kinds(tmp_path: Path) -> None:
    onnx(tmp_path / "slim")
    torchscript("2.14.1")(tmp_path / "torch")
    publish_plan(tmp_path / "gpu")
    kinds = {name: containers.default_kind(read_repository(tmp_path / name)) for name in ("slim", "torch", "gpu")}
    assert kinds == {"slim": "slim", "torch": "nvidia", "gpu": "nvidia"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "foo bar", False), "'foo bar' is not an image's name"),
        (("fat", None, False), "there is no kind 'fat' of image; choose slim, nvidia"),
        (("slim", None, False), "t needs PyTorch, which alone takes several GB"),
        ((None, None, False, "3"), "'3' is no Python's version"),
    ],
)
def test_impossible_orders(arguments: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    torchscript("2.14.1")(tmp_path)
    with pytest.raises(ImageError, match=message):
        make.order(read_repository(tmp_path), *arguments)


def test_steps_tell_what_they_need(repository: Path, tmp_path: Path) -> None:
    import PIL

    assert requirements(read_repository(repository)) == (f"pillow=={PIL.__version__}",)
    onnx(tmp_path)  # published before steps told
    assert requirements(read_repository(tmp_path)) == ("pillow",)


def test_any_step_tells_what_it_needs_and_a_network_by_itself_needs_nothing(tmp_path: Path) -> None:
    onnx: dict[str, Any] = {"backend": "onnxruntime", "filename": "model.onnx", "facts": {}, "device": "cpu"}
    publish_model(tmp_path, "alone", **onnx, alone=True)
    (alone,) = read_repository(tmp_path)
    assert requirements([alone]) == ()
    assert resolving.addition([alone]) == ""
    assert packages.pinned(requirements([alone])) == {}
    publish_model(tmp_path, "behind", **onnx, steps=["postprocess_1"])
    assert requirements(read_repository(tmp_path)) == ()
    publish_model(tmp_path, "many", **onnx, steps=["preprocess_1", "scale_1", "postprocess_1"])
    assert requirements(read_repository(tmp_path)) == ("pillow",)
    assert resolving.addition(read_repository(tmp_path)) == "with pillow for the steps around the networks, "
    (tmp_path / "postprocess_1" / "config.pbtxt").write_text(
        (tmp_path / "postprocess_1" / "config.pbtxt").read_text()
        + 'parameters { key: "requirements" value { string_value: "numpy==1.26.4 shapely" } }'
    )
    assert requirements(read_repository(tmp_path)) == ("numpy==1.26.4", "pillow", "shapely")


def test_a_network_by_itself_has_an_image(tmp_path: Path) -> None:
    onnx: dict[str, Any] = {
        "backend": "onnxruntime",
        "filename": "model.onnx",
        "facts": {"format": "onnx"},
        "device": "cpu",
    }
    for content in (b"x", b"y"):
        publish_model(tmp_path / "r", "t", files={"model.onnx": content}, **onnx, alone=True)
    assert choice.choose(read_repository(tmp_path / "r")).release
    told = labels(an_order(tmp_path / "r"))
    assert json.loads(told["build-repo.models"]) == [{"name": "t", "version": 2, "format": "onnx"}]
    context.copy_served(tmp_path / "r", tmp_path / "models")
    assert sorted(path.name for path in (tmp_path / "models" / "t").iterdir()) == ["2", "config.pbtxt", "warmup"]
    assert read_intact(tmp_path / "models")[0].artifact_bytes == read_repository(tmp_path / "r")[0].artifact_bytes


def test_packages_are_those_that_are_here() -> None:
    pinned = packages.pinned(["onnxruntime", "tritonclient[grpc]", "pillow==1.2.3"], alone=["onnxruntime"])
    assert pinned["pillow"] == "1.2.3"
    assert {"grpcio", "protobuf", "numpy"} <= set(pinned)
    assert "geventhttpclient" not in pinned  # of an extra that was not asked for
    assert "flatbuffers" not in pinned
    assert set(packages.pinned(["tokenizers"])) == {"tokenizers"}  # no client of a hub is put into images
    with pytest.raises(ImageError, match="pip install no-such-thing"):
        packages.pinned(["no-such-thing"])


def test_packages_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot be downloaded; pip said:\n.*pillow==0.0.1"):
        packages.download({"pillow": "0.0.1"}, tmp_path, "3.12")


def an_order(folder: Path, bake: bool = True, base: str = "base:1") -> Order:
    return Order(read_repository(folder), "slim", base, "3.11", bake)


def test_only_what_is_served_is_baked(tmp_path: Path) -> None:
    for _ in range(2):
        publish_model(tmp_path / "r", "o", backend="onnxruntime", filename="model.onnx", facts={}, device="cpu")
    (tmp_path / "r" / "foreign" / "1").mkdir(parents=True)
    (tmp_path / "r" / "foreign" / "config.pbtxt").write_text("")
    (tmp_path / "r" / "notes").mkdir()
    context.copy_served(tmp_path / "r", tmp_path / "models")
    found = {str(path.relative_to(tmp_path / "models")) for path in (tmp_path / "models").rglob("*") if path.is_dir()}
    assert {"o/2", "o_onnxruntime/2", "o_onnxruntime/warmup", "preprocess_1/1", "foreign/1"} <= found
    assert not {"o/1", "o_onnxruntime/1", "notes"} & found
    assert (tmp_path / "models" / "o" / "config.pbtxt").read_text() == (tmp_path / "r/o/config.pbtxt").read_text()


def test_equal_contexts_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    onnx(tmp_path / "r", built_at="2026-01-02T03:04:05+00:00")
    packed = []
    for number in range(2):
        folder = tmp_path / str(number)
        (folder / "b").mkdir(parents=True, mode=0o700 if number else 0o755)
        (folder / "b" / "file").write_text("content")
        (folder / "a").write_text("content")
        (folder / "a").chmod(0o600 if number else 0o644)
        stream = io.BytesIO()
        context.pack(folder, an_order(tmp_path / "r"), stream)
        packed.append(stream.getvalue())
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as tar:
        assert {member.mtime for member in tar} == {1767323045}
        assert [member.name for member in tar] == ["a", "b", "b/file"]


def test_labels_tell_where_an_image_is_from(tmp_path: Path) -> None:
    onnx(tmp_path, weights="w.pth", artifact_sha256="ab", built_at="2026-01-02T03:04:05+00:00")
    found = labels(an_order(tmp_path))
    assert found["org.opencontainers.image.created"] == "2026-01-02T03:04:05+00:00"
    assert found["org.opencontainers.image.base.name"] == "base:1"
    (told,) = json.loads(found["build-repo.models"])
    assert told["name"] == "o"
    assert told["version"] == 1
    assert told["artifact_sha256"] == "ab"
    assert labels(an_order(tmp_path, bake=False))["build-repo.models"] == "mounted"


@pytest.mark.parametrize(
    ("reference", "told", "triton"),
    [
        ("mine:1", {"build-repo.kind": "slim", "build-repo.triton": "2.51"}, "2.51"),
        ("mine:1", {"build-repo.kind": "slim"}, EMBEDDED),  # built before it was told
        ("mine:1", {"build-repo.kind": "nvidia", BASE_NAME: "host/nvidia/tritonserver:26.04-py3"}, "2.68"),
        ("mine:1", {"build-repo.kind": "nvidia", BASE_NAME: "base:1"}, None),
        ("host:5000/tritonserver:26.09-py3", {}, "2.73"),
        ("mine:1", {}, None),
    ],
)
def test_an_image_tells_its_server(reference: str, told: dict[str, str], triton: str | None, tmp_path: Path) -> None:
    onnx(tmp_path)
    there = SimpleNamespace(images=SimpleNamespace(get=lambda _: SimpleNamespace(labels=told)))
    assert resolving.resolve(there, read_repository(tmp_path), reference, None).triton == triton


@pytest.mark.parametrize(("kind", "base"), [("slim", "python:3.11-slim"), ("nvidia", "tritonserver:26.04-py3")])
def test_an_image_is_labelled_with_its_server(kind: str, base: str, tmp_path: Path) -> None:
    onnx(tmp_path)
    wanted = make.order(read_repository(tmp_path), kind, base, bake=False)
    assert labels(wanted)["build-repo.triton"] == wanted.triton == (EMBEDDED if kind == "slim" else "2.68")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--kind", "slim"],
            f"Triton {EMBEDDED} has {len(open_in(EMBEDDED, CALLERS))} published holes open to whoever",
        ),
        (["--kind", "nvidia", "--base", "tritonserver:26.04-py3"], "Triton 2.68 has"),
        (["--kind", "nvidia", "--base", "mine:1"], "which Triton mine:1 has is not told by its name; SECURITY.md"),
        (["--kind", "nvidia"], ""),
    ],
)
def test_the_command_says_what_is_open_in_an_image(arguments: list[str], said: str, tmp_path: Path) -> None:
    onnx(tmp_path / "models")
    taken = ["--output", tmp_path]  # it exists
    done = warm.run("builder", "image", "-r", tmp_path / "models", *arguments, *taken)
    assert done.returncode == ImageError.exit_code
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"build-repo: {said}") if said else "holes" not in done.stderr
    assert bool(rest) == bool(said)
    assert "--kind nvidia" in first or not said or "SECURITY.md tells" in first


# What Docker's own parser makes of a quoted value: a backslash keeps the next character.
@given(st.text())
def test_labels_are_quoted(text: str) -> None:
    quoted = context._quoted(text)
    assert quoted[0] == quoted[-1] == '"'
    inner, read, escaped = quoted[1:-1], [], False
    for character in inner:
        if escaped or character != "\\":
            assert escaped or character not in '"$\n'
            read.append(character)
        escaped = not escaped and character == "\\"
    assert "".join(read) == text.replace("\n", " ")


def test_a_context_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    onnx(tmp_path / "r")
    order = an_order(tmp_path / "r")
    (tmp_path / "there").mkdir()
    with pytest.raises(ImageError, match="exists; name a new folder"):
        make.write_context(order, tmp_path / "there", lambda _: None)
    impossible = Order(order.models, "nvidia", "base:1", "3.99", True)
    with pytest.raises(ImageError, match="cannot be downloaded"):
        make.write_context(impossible, tmp_path / "new", lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".r.staging", "r", "there"]


def test_the_first_process_knows_the_same_doors() -> None:
    """It runs in images without this package, and so says again some of what it shares with it."""
    values = constants(containers.nvidia.FIRST_PROCESS[0]) | constants(containers.nvidia.FIRST_PROCESS[1])
    assert values["KEY_VARIABLE"] == access.ENVIRONMENT
    assert values["SHORTEST_KEY"] == access.SHORTEST_KEY
    codes = (LaunchError.exit_code, ModelLoadError.exit_code, ServerEnded.exit_code)
    assert (values["CANNOT_LAUNCH"], values["CANNOT_LOAD"], values["ENDED"]) == codes


def constants(source: Path) -> dict[str, Any]:
    """Those that a module's source sets to plain values, products of numbers included."""
    found: dict[str, Any] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            with suppress(NameError):
                value = eval(compile(ast.Expression(node.value), str(source), "eval"), {"__builtins__": {}})
                found |= dict(zip(names, value, strict=True)) if len(names) > 1 else {names[0]: value}
    return found


@pytest.mark.parametrize("command", ["image --output context", "deploy swarm --image a/b:1 -o out"])
def test_a_damaged_repository_goes_nowhere(command: str, tmp_path: Path) -> None:
    values = {"backend": "onnxruntime", "filename": "model.onnx", "files": {"model.onnx": b"as it was built"}}
    publish_model(tmp_path / "r", "o", facts={"opset": "18"}, device="cpu", **values)
    (tmp_path / "r" / "o_onnxruntime" / "1" / "model.onnx").write_bytes(b"as it is now")
    done = warm.run("builder", *command.split(), "-r", "r", cwd=tmp_path)
    assert done.returncode == RepositoryError.exit_code
    assert "model.onnx" in done.stderr
    assert not (tmp_path / command.split()[-1]).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"memory": "lots"}, "'lots' is no size of memory"), ({"name": "a b"}, "'a b' cannot be a container's name")],
)
def test_nothing_is_pulled_for_a_container_that_cannot_be(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    onnx(tmp_path)
    with pytest.raises(LaunchError, match=message):
        LAUNCHERS["docker"].launch(tmp_path, LaunchOptions(), ContainerOptions(image="absent:1", **changes))


@pytest.mark.parametrize("tag", ["Bad Tag", "UPPER/x:1", "x@sha256:" + "0" * 64, ""])
def test_an_image_that_cannot_be_named(tag: str, tmp_path: Path) -> None:
    """Before anything is downloaded for it, or the engine asked."""
    onnx(tmp_path)
    with pytest.raises(ImageError, match="cannot be an image's name"):
        make.build(make.order(read_repository(tmp_path), None, None, False), tag)


@pytest.mark.parametrize("version", ["unknown", "", "2.x"])
def test_facts_that_were_edited_end_no_choice(version: str, tmp_path: Path) -> None:
    torchscript(version)(tmp_path)
    publish_model(tmp_path, "o", backend="onnxruntime", filename="m", facts={"opset": version}, device="cpu")
    assert choice.choose(read_repository(tmp_path)).release == NEWEST


@pytest.mark.parametrize("time", ["yesterday", "", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00"])
def test_times_that_were_edited_end_no_image(time: str, tmp_path: Path) -> None:
    onnx(tmp_path, built_at=time)
    assert labels(an_order(tmp_path))["org.opencontainers.image.created"]


def test_a_step_cannot_ask_for_more_than_packages() -> None:
    with pytest.raises(ImageError, match="is not the name of a package"):
        packages.pinned(["--index-url=http://example.org"])

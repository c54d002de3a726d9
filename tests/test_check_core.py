"""What the server's core makes of folders and configs before it judges them, held to the real one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stand_ins
from google.protobuf import json_format

from builder.check import listing, policy
from builder.check.config import parse, schema
from builder.check.reader import is_model, model_of, models_of
from builder.check.run import CheckOptions, check_repository
from builder.check.target import EMBEDDED, Target
from builder.check.throwaway import Throwaway
from builder.launchers.runtime import bare
from builder.triton.control import DIRECT

IO = "".join(f'{end} {{ name: "{end[0]}" data_type: TYPE_FP32 dims: 4 }}\n' for end in ("input", "output"))
GROUPS = 'instance_group { kind: KIND_CPU }\ninstance_group { name: "more" count: 3 }\n'
FILLED: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnx": ("", ("1/model.onnx",)),
    "onnx_folder": ("", ("1/model.onnx/weights",)),
    "plan": ("", ("1/model.plan",)),
    "torchscript": ("", ("1/model.pt",)),
    "openvino": ("", ("1/model.xml",)),
    "saved_model": ("", ("1/model.savedmodel/part",)),
    "graph": ("", ("1/model.graphdef",)),
    "both": ("", ("1/model.pt", "1/model.onnx")),
    "first_in_bytes": ("", ("10/model.pt", "9/model.onnx")),
    "platform": ('platform: "pytorch_libtorch"', ("1/any",)),
    "file": ('default_model_filename: "model.xml"', ("1/any",)),
    "other_file": ('backend: "onnxruntime" default_model_filename: "net.onnx"', ("1/any",)),
    "by.custom": ("", ("1/model.custom",)),
    "dots.custom": ("", ("1/.keep",)),
    "groups": (f'backend: "onnxruntime"\n{GROUPS}', ("1/any",)),
    "tensorflow_groups": (f'platform: "tensorflow_graphdef"\n{GROUPS}', ("1/any",)),
    "no_groups": ('backend: "onnxruntime"', ("1/any",)),
    "batches": ('backend: "custom" max_batch_size: 8 dynamic_batching { }', ("1/any",)),
    "oldest": ('backend: "custom" max_batch_size: 8 sequence_batching { oldest { } }', ("1/any",)),
    "sequences": ('backend: "custom" sequence_batching { }', ("1/any",)),
    "no_policy": ('backend: "custom" version_policy { }', ("1/any",)),
    "pinned": ('backend: "custom" optimization { input_pinned_memory { enable: false } }', ("1/any",)),
}


def _write(folder: Path, text: str | None, files: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if text is not None:
        (folder / "config.pbtxt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A repository with every model of FILLED, and what a real server makes of their configs."""
    folder = tmp_path_factory.mktemp("filled")
    for name, (text, files) in FILLED.items():
        _write(folder / "repository" / name, f"{text}\n{IO}", files)
    backends = stand_ins.backends(folder / "backends")
    options = [f"--model-repository={folder / 'repository'}", f"--backend-directory={backends}"]
    with bare() as runtime, Throwaway(runtime, options, 60) as server:
        assert not any(server.load(name, 60) for name in FILLED)
        yield folder / "repository", {name: _config(server.url, name) for name in FILLED}


def _config(url: str, name: str) -> Any:
    with DIRECT.open(f"{url}/models/{name}/config", timeout=60) as answer:
        return json_format.ParseDict(json.load(answer), schema().ModelConfig())


@pytest.mark.parametrize("name", FILLED)
def test_what_the_core_fills_in_is_what_the_server_says(name: str, told: tuple[Path, dict[str, Any]]) -> None:
    repository, configs = told
    ours = model_of(repository / name, gpus=0).filled
    assert ours == configs[name]


def test_newer_servers_know_another_format_of_pytorch(tmp_path: Path) -> None:
    folder = _write(tmp_path / "net", IO, ("1/model.pt2",))
    assert not model_of(folder, EMBEDDED).filled.backend
    newer = model_of(folder, Target("26.03")).filled
    assert (newer.backend, newer.platform) == ("pytorch", "torch_aoti")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *(("1", 1), ("2.tmp", 2), ("1e3", 1), ("+5", 5), (" 7", 7), ("-1", -1), ("0", 0), ("-03", -3), ("1 2", 1)),
        *(("03", None), ("0x10", None), ("a1", None), ("", None), ("-", None), ("٣", None), ("warmup", None)),
    ],
)
def test_folders_are_versions_as_c_reads_numbers(name: str, version: int | None) -> None:
    assert listing.version(name) == version


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("", (1, 2, 7)),
        ("all { }", (1, 2, 7)),
        ("latest { num_versions: 2 }", (2, 7)),
        ("latest { }", ()),
        ("specific { versions: [7, 8] }", (7,)),
        ("specific { versions: [8, 8] }", (8,)),
    ],
)
def test_which_versions_a_policy_serves(text: str, served: tuple[int, ...]) -> None:
    chosen = parse(f"version_policy {{ {text} }}", Path("config.pbtxt")).message.version_policy
    assert policy.chosen(chosen, [7, 1, 2]) == served


def test_every_folder_is_a_model_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b", ".git", "a"):
        _write(tmp_path / name, None)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    assert [model.name for model in models_of(tmp_path)] == [".git", "a", "b", "link"]


def test_a_model_is_told_from_a_repository(tmp_path: Path) -> None:
    assert is_model(_write(tmp_path / "with_config", "", ()))
    assert is_model(_write(tmp_path / "with_version", None, ("1/model.onnx",)))
    assert not is_model(_write(tmp_path / "repository", None, ("1/config.pbtxt", "1/1/model.onnx")))
    assert not is_model(_write(tmp_path / "nothing", None, ("data/1.bin",)))


def test_another_config_may_be_named(tmp_path: Path) -> None:
    folder = _write(tmp_path / "net", 'backend: "custom"', ("1/any", "configs/b.pbtxt"))
    (folder / "configs" / "b.pbtxt").write_text('backend: "identity"')
    assert model_of(folder, config_name="b").filled.backend == "identity"
    assert model_of(folder, config_name="c").filled.backend == "custom"


def test_a_name_that_is_no_text_is_a_model_all_the_same(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/n\xff.custom\xfe"))
    _write(folder, IO, ("1/any",))
    report = check_repository([tmp_path], CheckOptions(EMBEDDED))
    assert report.models == (folder.name,)
    assert not report.refuses(folder.name)


def test_folders_that_lead_in_a_circle_and_pipes_end_in_time(tmp_path: Path) -> None:
    folder = _write(tmp_path / "net", f'backend: "custom"\n{IO}', ("1/any",))
    (folder / "again").symlink_to("..")
    os.mkfifo(folder / "pipe")
    labelled = (folder / "config.pbtxt").read_text().replace("output {", 'output { label_filename: "pipe"')
    (folder / "config.pbtxt").write_text(labelled)
    report = check_repository([tmp_path], CheckOptions(EMBEDDED))
    assert [finding.rule.code for finding in report.findings] == ["TMR214"]

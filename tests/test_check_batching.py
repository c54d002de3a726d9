"""What check says of batching, sequences, states and warm-up, beyond the cases of the corpus: what has no verdict."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.check.config import parse
from builder.check.findings import Finding, Level
from builder.check.model import Context, Model
from builder.check.rules import batch_io, batching, caching, sequences, states, warmup, warmup_files
from builder.check.target import EMBEDDED
from builder.check.tensors import byte_size, elements, protocol_name, string_lengths, type_name

FAMILIES = (batching, batch_io, sequences, states, warmup, warmup_files, caching)
IO = """
backend: "custom" max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
"""
WARMUP = """
model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_%s dims: [ %d ] input_data_file: "data" } } }
"""
STATE = """
sequence_batching { state { input_name: "old" output_name: "new" data_type: TYPE_FP32 dims: [ 4 ]
  initial_state { name: "first" data_type: TYPE_FP32 dims: [ 4 ] data_file: "data" } } }
"""


def _model(folder: Path, text: str) -> Model:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    config = parse(text, folder / "config.pbtxt")
    assert config.is_readable
    filled = type(config.message)()
    filled.CopyFrom(config.message)
    filled.name = folder.name
    return Model(folder.name, folder, config, filled, (1,), {1: folder / "1"})


def _found(model: Model, strict: bool = False) -> list[Finding]:
    context = Context(EMBEDDED, strict=strict)
    return [finding for family in FAMILIES for finding in family.check(model, context)]


def _codes(model: Model, strict: bool = False) -> list[str]:
    return [finding.rule.code for finding in _found(model, strict)]


@pytest.mark.parametrize(
    ("text", "folder", "code"), [(WARMUP % ("FP32", 4), "warmup", "TMR509"), (STATE, "initial_state", "TMR470")]
)
def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path, text: str, folder: str, code: str) -> None:
    (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / folder / "data")
    assert _codes(_model(tmp_path, IO + text)) == [code]


@pytest.mark.parametrize("text", [WARMUP % ("FP32", 4), STATE])
def test_a_name_that_no_file_can_have_is_a_missing_file(tmp_path: Path, text: str) -> None:
    model = _model(tmp_path, IO + text.replace('"data"', f'"{"d" * 5000}"'))
    assert [finding.server for finding in _found(model)] == ["failed to open text file for read"]


def test_a_loop_of_links_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "data").symlink_to("data")
    assert _codes(_model(tmp_path, IO + WARMUP % ("FP32", 4))) == ["TMR508"]


def test_a_large_file_of_strings_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "warmup").mkdir()
    with (tmp_path / "warmup" / "data").open("wb") as file:
        file.truncate(1 << 40)
    text = IO.replace("FP32 dims: [ 4 ] }\noutput", "STRING dims: [ -1 ] }\noutput")
    assert _codes(_model(tmp_path, text + WARMUP % ("STRING", 4))) == []


def test_tensors_that_a_backend_may_yet_fill_in_are_not_missed(tmp_path: Path) -> None:
    text = """backend: "custom" batch_input { kind: BATCH_ELEMENT_COUNT data_type: TYPE_INT32 source_input: "x" }
    batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "y" source_input: "x" }"""
    model = _model(tmp_path, text + WARMUP % ("FP32", 4))
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "data").write_bytes(bytes(16))
    assert _codes(model) == []
    assert _codes(model, strict=True) == ["TMR424", "TMR424", "TMR425"]


def test_a_batch_size_that_a_backend_may_find_is_not_missed(tmp_path: Path) -> None:
    text = IO.replace("max_batch_size: 8", "").replace("custom", "onnxruntime") + "dynamic_batching { }"
    assert _codes(_model(tmp_path, text)) == []
    assert _codes(_model(tmp_path, text), strict=True) == ["TMR408"]


def test_preferred_sizes_are_held_to_the_text(tmp_path: Path) -> None:
    """The server looks at them before the backend, which may find a max_batch_size."""
    model = _model(tmp_path, 'backend: "onnxruntime" dynamic_batching { preferred_batch_size: 4 }')
    model.filled.max_batch_size = 4
    assert _codes(model) == ["TMR402"]


def test_each_fault_is_told(tmp_path: Path) -> None:
    text = """dynamic_batching { preferred_batch_size: [ 0, 9, 4 ] priority_levels: 2 preserve_ordering: true
      priority_queue_policy { key: 5 value { timeout_action: DELAY default_timeout_microseconds: 1 } } }"""
    assert _codes(_model(tmp_path, IO + text)) == ["TMR401", "TMR402", "TMR403", "TMR404", "TMR405", "TMR406"]


def test_a_cache_is_disabled_where_it_is_enabled(tmp_path: Path) -> None:
    text = IO + "sequence_batching { }\nresponse_cache { enable: true }"
    model = _model(tmp_path, text)
    (finding,) = _found(model)
    (edit,) = finding.edits
    mended = text[: edit.start] + edit.text + text[edit.end :]
    assert _codes(_model(tmp_path, mended)) == []
    assert not finding.is_safe  # what is wrong may be the scheduler


def test_an_ensemble_makes_no_requests_of_its_own(tmp_path: Path) -> None:
    text = 'platform: "ensemble" ensemble_scheduling { step { model_name: "m" } }' + WARMUP % ("FP32", 4)
    (tmp_path / "batchstrategy.so").write_bytes(b"no library")
    assert _codes(_model(tmp_path, text)) == []


def test_rules_are_told_in_sentences_with_a_source() -> None:
    rules = [rule for family in FAMILIES for rule in family.RULES]
    assert len({rule.code for rule in rules}) == len(rules) == len({rule.name for rule in rules})
    for rule in rules:
        assert rule.level in Level
        assert all(said.endswith(".") for said in (rule.summary, rule.why, rule.mend)), rule.code
        assert rule.source.startswith(("core: src/", "server: docs/")), rule.code


def test_tensors_are_counted_as_the_server_counts_them() -> None:
    assert [elements(dims) for dims in ([], [3], [2, 3], [2, -1], [0, 5], [-2, 3])] == [0, 3, 6, -1, 0, -6]
    assert [byte_size(kind, [3]) for kind in (0, 1, 10, 13, 14)] == [12, 3, 6, 12, 6]
    assert [protocol_name(kind) for kind in (0, 11, 13, 99)] == ["<invalid>", "FP32", "BYTES", "<invalid>"]
    assert [type_name(kind) for kind in (13, 99)] == ["TYPE_STRING", "99"]
    assert list(string_lengths(b"\2\0\0\0ab\1\0\0\0c\0\0")) == [2, 1, None]
    assert list(string_lengths(b"\5\0\0\0ab")) == [5]

"""Configs are read as the server reads them, whatever is in them, and whatever stands where one should be."""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stand_ins
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.check import config, files, fix
from builder.check.config import LIMIT, parse, read, schema
from builder.check.load import judged
from builder.check.rules import reading
from builder.check.tokens import Words

X = Path("config.pbtxt")
SEEDS = (
    """name: "resnet"
backend: "custom"
max_batch_size: 8
input [ { name: "INPUT__0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ] } ]
output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 1000 ] label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU rate_limiter { resources [ { name: "R" global: t count: 1 } ] } } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] default_queue_policy { timeout_action: REJECT } }
version_policy: { specific { versions: [1, 2] versions: 3 } }
parameters { key: "intra_op" value: { string_value: "2" } }
# a comment
model_warmup [ { name: "zero" inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: 3 zero_data: true } } } ]
""",
    """backend: 'cus' "t\\x6f\\u006d\\101"
sequence_batching { control_input [ { name: "START" control [ {
  kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1.5e3, 1., .5, 1e5f, inf, -nan ] } ] } ]
  oldest < max_candidate_sequences: 0x10 > state { input_name: "s" output_name: "t" data_type: 11 dims: -1 } }
response_cache { enable: True }
model_transaction_policy { decoupled: f };
""",
)
WORDS = (
    *("{", "}", "<", ">", "[", "]", ":", ",", ";", '"', "'", "\\", "#", "-", ".", "=", "/", "_", " ", "\t", "\n", "\r"),
    *("0", "09", "0x", "0777", "1.", "1e", "1.5f", "e5", "-0.0", "99999999999999999999", "inf", "nan", "true", "t"),
    *("TYPE_FP32", "name", "dims", "key", "value", "latest", 'name: "x"', '"a" "b"', "all {}", "[a.b]"),
    *("\\u12", "\\777", "\\U0010ffff", "\0", "\x01", "é", "“", "\ufeff"),
)


def text_of(message: Any) -> str:
    return str(text_format.MessageToString(message))


# Valid texts

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    1: st.integers(-(2**31), 2**31 - 1),
    2: st.integers(-(2**63), 2**63 - 1),
    3: st.integers(0, 2**32 - 1),
    4: st.integers(0, 2**64 - 1),
    5: st.floats(allow_nan=False),
    6: st.floats(width=32, allow_nan=False),
    7: st.booleans(),
    9: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
}


def fill(message: Any, draw: st.DrawFn, depth: int = 0) -> None:
    """A few of its fields, drawn."""
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    for field in draw(st.lists(st.sampled_from(fields), max_size=4 if depth else 8, unique_by=lambda one: one.name)):
        held = getattr(message, field.name)
        if field.message_type is None:
            value = draw(scalar(field))
            held.append(value) if hasattr(held, "append") else setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            fill_map(held, field.message_type, draw, depth)
        else:
            nested = held.add() if hasattr(held, "add") else held
            nested.SetInParent()
            fill(nested, draw, depth + 1)


def fill_map(held: Any, entry: Any, draw: st.DrawFn, depth: int) -> None:
    key, value = draw(scalar(entry.fields_by_name["key"])), entry.fields_by_name["value"]
    if value.message_type is None:
        held[key] = draw(scalar(value))
    else:
        fill(held[key], draw, depth + 1)


def scalar(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.cpp_type]


@st.composite
def configs(draw: st.DrawFn) -> Any:
    message = schema().ModelConfig()
    fill(message, draw)
    return message


@settings(max_examples=150, deadline=None)
@given(configs(), st.booleans())
def test_what_protobuf_prints_is_read_as_it_was(message: Any, as_one_line: bool) -> None:
    found = parse(text_format.MessageToString(message, as_one_line=as_one_line, as_utf8=as_one_line), X)
    assert found.problems == found.notes == ()
    assert found.message == message


@pytest.mark.parametrize("text", SEEDS)
def test_a_text_means_what_it_means_to_protobuf(text: str) -> None:
    assert text_of(parse(text, X).message) == text_of(text_format.Parse(text, schema().ModelConfig()))


# Any text


def mutated(text: str, draw: random.Random) -> str:
    for _ in range(draw.choice([1, 1, 1, 2])):
        at, kind = draw.randrange(len(text) + 1), draw.random()
        if kind < 0.4:
            text = text[:at] + draw.choice(WORDS) + text[at:]
        elif kind < 0.6:
            text = text[:at] + text[at + draw.choice([1, 1, 2, 5]) :]
        elif kind < 0.75:
            text = text[:at] + text[at : at + draw.randrange(1, 30)] + text[at:]
        else:
            begin, end = draw.choice([word.span() for word in re.finditer(r"\w+|\S", text)] or [(0, 0)])
            text = text[:begin] + draw.choice(WORDS) + text[end:]
    return text or " "


LETTERS = "{}[]<>:;,\"'\\#.-+0123456789eExXufFaz_ \n\t\0\x01éß“"
PYTHONS_OWN = (
    (True, "Invalid escape sequence"),
    (True, "Unexpected end of string"),  # it knows no end in a null byte
    (True, 'Non-repeated field "key"'),
    (True, 'Non-repeated field "value"'),
    (False, r"\\[4-7]\d\d"),  # octal escapes beyond a byte
    (False, r"-\s"),  # a sign that stands apart
    (False, r"\b0\d+"),  # octal numbers of enums
)
"""Where protobuf in Python and protobuf in C++ differ: what Python takes and in which words C++ refuses it, and what
Python refuses that is in a text which C++ takes."""


def pythons(text: str) -> bool:
    """Whether protobuf's own parser in Python takes it."""
    try:
        text_format.Parse(text, schema().ModelConfig())
    except (text_format.ParseError, ValueError):
        return False
    return True


def test_any_text_is_refused_where_the_server_refuses_it_and_in_its_words(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(time.time()) // (7 * 24 * 3600)
    draw = random.Random(seed)
    texts = {f"m{number}": mutated(draw.choice(SEEDS), draw) for number in range(300)}
    for name, text in texts.items():
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(text, encoding="utf-8", newline="")
    refused = 0
    for verdict in judged(tmp_path / "models", list(texts), stand_ins.backends(tmp_path / "backends")):
        text = texts[verdict.model]
        found = read(tmp_path / "models" / verdict.model / "config.pbtxt")
        is_refused = "failed to read text proto" in verdict.reason
        refused += is_refused
        assert is_refused == bool(found.problems), (seed, text, verdict.reason, found.problems)
        if is_refused:
            assert found.problems[0].server in verdict.reason, (seed, text)
        if pythons(text) == is_refused:
            told = found.problems[0].server if is_refused else text
            assert any(is_refused == own and re.search(words, told) for own, words in PYTHONS_OWN), (seed, text)
        elif not is_refused:
            assert text_of(found.message) == text_of(text_format.Parse(text, schema().ModelConfig()))
    record_property("refused", refused)
    assert 100 < refused < 300


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from("{}[]<>:;,\"'\\#.-+0123456789eExXufFaz_ \n\t\0\x01éß“"), max_size=60)
)
def test_any_bytes_are_a_config_or_have_a_place_where_they_are_none(given_: bytes | str) -> None:
    raw = given_ if isinstance(given_, bytes) else given_.encode()
    found = config.of(raw, X)
    for problem in (*found.problems, *found.notes):
        assert problem.span is not None
        assert 0 <= problem.span.start <= problem.span.end <= len(found.text)
        assert problem.code in {rule.code for rule in reading.RULES}
    assert found.is_readable or not found.message.ListFields()


@pytest.mark.parametrize(
    "text",
    [
        "input { " * 300_000,
        "[" * 300_000,
        "a: [ { " * 300_000,
        "foo " + "{ " * 300_000,
        "\x01 " * 300_000,
        "'\\" * 300_000,
        '"a\n' * 300_000,
        "#\n" * 300_000 + "x",
        "é" * 300_000,
        "name: " + '"a" ' * 300_000,
        "1e" * 300_000,
        random.Random(1).randbytes(1 << 20).decode("latin-1"),
    ],
    ids=range(12),
)
def test_much_of_anything_is_read_within_the_tests_time(text: str) -> None:
    assert len(parse(text, X).problems) <= 20


# Places and mends


def test_every_field_has_a_place() -> None:
    found = parse(SEEDS[0], X)

    def said(*path: str | int) -> str:
        span = found.span(*path)
        assert span
        assert (
            SEEDS[0]
            .split("\n")[span.line - 1][span.column - 1 :]
            .startswith(SEEDS[0][span.start : span.end].split("\n")[0])
        )
        return SEEDS[0][span.start : span.end]

    def value(*path: str | int) -> str:
        span = found.value(*path)
        return SEEDS[0][span.start : span.end] if span else ""

    assert said("max_batch_size") == "max_batch_size: 8"
    assert value("max_batch_size") == "8"
    assert said("input", 0, "dims", 1) == "224"
    assert said("input", 0, "dims") == "dims: [ 3, 224, 224 ]"
    assert said("version_policy", "specific", "versions", 2) == "versions: 3"
    assert value("parameters", "intra_op", "string_value") == '"2"'
    assert value("parameters", "intra_op", "key") == '"intra_op"'
    assert said("model_warmup", 0, "inputs", "INPUT__0", "dims", 0) == "dims: 3"
    assert said("output", 0, "reshape", "shape").startswith('{ name: "OUTPUT__0"')
    assert found.span("ensemble_scheduling") is None
    assert value("output", 0, "reshape") == ""
    assert set(found.spans) >= {("name",), ("input", 0, "name"), ("instance_group", 0, "rate_limiter", "resources", 0)}
    assert len(found.spans) == len(set(found.spans)) > 40


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("max_batchsize: 8", "max_batch_size: 8"),
        ("max_batch_sise: 8", "max_batch_size: 8"),
        ("nmae: 'x'", "name: 'x'"),
        ("instance_group { kind: CPU }", "instance_group { kind: KIND_CPU }"),
        ("instance_group { kind: 'KIND_CPU' }", "instance_group { kind: KIND_CPU }"),
        ("name: resnet", 'name: "resnet"'),
        ("max_batch_size: '8'", "max_batch_size: 8"),
        ("name: “x”", 'name: "x"'),
        ("max_batch_size = 8", "max_batch_size : 8"),
        ("parallel: 8", ""),
        ("input { data_type: TYPE_INT6 }", ""),  # INT64, INT16, INT8
        ("max_batch_size: '8.5'", ""),
        ("model_transaction_policy { decoupled: TRUE }", "model_transaction_policy { decoupled: true }"),
    ],
)
def test_a_sure_slip_has_a_mend(text: str, mended: str) -> None:
    (problem,) = parse(text, X).problems
    assert (fix.fixed(text, problem.edits) if problem.edits else "") == mended
    assert not mended or parse(mended, X).is_readable


@pytest.mark.parametrize(
    ("given", "meant"), [("shape: 1", "dims"), ("dtype: 1", "data_type"), ("lable_filename: 1", "")]
)
def test_a_field_is_known_by_the_names_of_others(given: str, meant: str) -> None:
    (problem,) = parse(f"input {{ {given} }}", X).problems
    assert problem.mend == (f"write {meant}" if meant else "")
    assert not problem.edits


# Whatever stands there


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, LIMIT + 1)


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("TMR001", Path.mkdir),
        ("TMR001", a_pipe),
        ("TMR001", a_socket),
        ("TMR014", lambda path: path.symlink_to(path)),
        ("TMR014", lambda path: path.symlink_to("away")),
        ("TMR014", lambda path: path.symlink_to("x" * 300)),
        ("TMR015", lambda path: path.symlink_to("/dev/null")),
        ("TMR015", large),
    ],
    ids=["folder", "pipe", "socket", "circle", "away", "long", "device", "large"],
)
def test_what_is_no_file_is_told_and_not_opened(
    code: str, make: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    make(Path("config.pbtxt"))
    found = read(Path("config.pbtxt"))
    assert [problem.code for problem in found.problems] == [code]
    assert found.text == ""
    assert not found.message.ListFields()


def test_one_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    found = read(tmp_path / "none" / "config.pbtxt")
    assert not found.exists
    assert found.is_readable


@pytest.mark.parametrize("call", ["open", "read"])
def test_one_that_may_not_be_read_is_told(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "config.pbtxt").write_text("name: 'x'")
    monkeypatch.setattr(files.os, call, refused)
    (problem,) = read(tmp_path / "config.pbtxt").problems
    assert (problem.code, problem.message) == ("TMR015", "it could not be read: permission denied")


def test_one_that_vanishes_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, real = tmp_path / "config.pbtxt", os.open
    file.write_text("name: 'x'")

    def late(path: Path, flags: int) -> int:
        path.unlink()
        return real(path, flags)

    monkeypatch.setattr(files.os, "open", late)
    assert not read(file).exists


def test_one_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, real = tmp_path / "config.pbtxt", os.open
    file.write_text("name: 'x'")

    def late(path: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real(path, flags)

    monkeypatch.setattr(files.os, "open", late)
    assert [problem.code for problem in read(file).problems] == ["TMR001"]


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"gr\xf6\xdfe")
    folder.mkdir()
    (folder / "config.pbtxt").write_text("nmae: 'x'")
    assert [problem.code for problem in read(folder / "config.pbtxt").problems] == ["TMR003"]


def test_words_are_read_one_by_one() -> None:
    """What is behind a fault that ends the reading costs nothing."""
    taken: list[str] = []
    words = Words("a b", lambda _, said: taken.append(said))
    assert (words.word, words.end) == ("a", 1)


def test_a_string_that_is_no_utf_8_is_shown(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_bytes(b"name: 'gr\xf6\xdfe'")
    found = read(tmp_path / "config.pbtxt")
    assert [note.code for note in found.notes] == ["TMR013"]
    assert found.message.name == r"gr\xf6\xdfe"

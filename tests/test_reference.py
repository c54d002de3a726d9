"""The reference: it goes over the registries, and imports torch only where it must."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from editors import KINDS, ROOT, schema
from typer.main import get_command

from builder import errors as builder_errors
from builder import networks
from builder.cli import app as build_repo
from builder.data import labels
from builder.exporters import EXPORTERS
from builder.manifest.models import spec_of
from builder.tasks import TASKS
from builder.tasks.classification import comparison
from builder.training import datasets
from client import errors as client_errors
from client.cli import app as repo_client

HOOKS = ROOT / "docs" / "hooks"
sys.path.append(str(HOOKS))  # where mkdocs has them import each other from

import pages  # noqa: E402
import reference  # noqa: E402
import registries  # noqa: E402

MARKS = [
    (page.name, mark[1], mark[2])
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for mark in pages.MARK.finditer(page.read_text(encoding="utf-8"))
]
ERRORS = {"build-repo": builder_errors.BuilderError, "repo-client": client_errors.ClientError}
PROGRAMS = {"build-repo": build_repo, "repo-client": repo_client}


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without the headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bodies = [line for line, below in zip(lines, [*lines[1:], ""], strict=True) if "---" not in line + below]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in bodies]


def first(text: str) -> list[str]:
    """Of each row, what is in its first cell's code."""
    return [re.sub(r"^`|`$", "", row[0]) for row in rows(text)]


def test_pages_ask_for_all_that_is_made_and_nothing_else() -> None:
    assert {name for _, name, _ in MARKS} == set(reference.MADE)
    assert {argument for _, name, argument in MARKS if name == "keys"} == set(KINDS)
    assert {argument for _, name, argument in MARKS if name == "commands"} == set(PROGRAMS)
    assert {argument for _, name, argument in MARKS if name == "exit-codes"} == set(ERRORS)


@pytest.mark.parametrize(("page", "name", "argument"), MARKS)
def test_what_is_made_has_tables_whose_rows_are_whole(page: str, name: str, argument: str) -> None:
    text = reference.MADE[name](*argument.split())
    assert text.strip(), page
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)


# --- keys ---


def below(kind: str, node: dict[str, Any]) -> Iterator[str]:
    """The keys of an object and of all the groups in it."""
    for key, value in node.get("properties", {}).items():
        yield key
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(value)):
            yield from below(kind, schema(kind)["$defs"][name])


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_has_a_row_in_its_group(kind: str) -> None:
    definitions = schema(kind)["$defs"]
    entries = [definitions[spec_of(name).__name__] for name in TASKS] if kind == "models" else [schema(kind)]
    shown = set(first(reference.keys(kind)))
    assert shown == {key for entry in entries for key in below(kind, entry)}


def test_defaults_bounds_and_choices_are_told() -> None:
    found = {row[0]: row[1:] for row in rows(reference.keys("models"))}
    assert found["`instances`"][:2] == ["integer, at least 1, at most 64", "`1`"]
    assert found["`device`"][:2] == ["`cpu`, `gpu`", "`cpu`"]
    assert found["`network`"][0].startswith(f"one of {len(networks.all_names())} names, such as `alexnet`")
    of_training = {row[0]: row[1:] for row in rows(reference.keys("training"))}
    assert of_training["`network`"][1] == "none: it must be given"
    assert of_training["`deterministic`"][:2] == ["`true` or `false`", "`false`"]


def test_groups_are_found_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """In lists, under names of the user's choice, among other possibilities; a definition that is no group is told."""
    group, word = {"$ref": "#/$defs/Group"}, {"$ref": "#/$defs/Word"}
    properties = {
        "named": {"type": "object", "additionalProperties": group},
        "many": {"anyOf": [{"type": "array", "items": group}, {"type": "null"}]},
        "one": {"oneOf": [word, {"type": "integer"}], "description": "Either."},
    }
    definitions = {"Group": {"properties": {"inner": word}}, "Word": {"enum": ["a", "b"]}}
    monkeypatch.setattr(registries, "schemas", lambda: {"own": {"properties": properties, "$defs": definitions}})
    text = reference.keys("own")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["named.NAME", "many[]"]
    assert text.count("| `inner` | `a`, `b` |") == 2
    assert "| `named` | names, each with a group of keys, see below |" in text
    assert "| `many` | a list (each: a group of keys, see below); `null` |" in text
    assert "| `one` | `a`, `b`; integer |  | Either. |" in text


# --- programs ---


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_and_option_is_there(program: str) -> None:
    text = reference.commands(program)
    found = list(reference.leaves(program, get_command(PROGRAMS[program])))
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [path for path, _ in found]
    for path, command in found:
        own = text.partition(f"## {path}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            shown = [name for name in parameter.opts if name.startswith("-") and name in own]
            options = [name for name in parameter.opts if name.startswith("-")]
            assert shown == ([] if parameter.hidden else options), (path, parameter)
        assert " ".join(command.help.split()) in " ".join(own.replace("\\", "").split())


# --- exit codes ---


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


@pytest.mark.parametrize("program", ERRORS)
def test_every_error_has_its_code_and_its_meaning(program: str) -> None:
    found = {(row[0], row[1].strip("`")): row[2] for row in rows(reference.exit_codes(program))}
    assert set(found) == {(str(error.exit_code), error.__name__) for error in tree(ERRORS[program])}  # type: ignore[attr-defined]
    assert all(found.values())


@pytest.mark.parametrize(
    "drawn",
    ["", "Error 1 all\nSmall 5 another code", "Small 4 is drawn\nGone 6 is no class"],
    ids=["none", "code", "class"],
)
def test_a_tree_that_is_drawn_otherwise_than_it_is_stops_the_build(drawn: str) -> None:
    root = type("Error", (Exception,), {"exit_code": 1})
    small = type("Small", (root,), {"exit_code": 4})
    module = ModuleType("errors", drawn)
    with pytest.raises(ValueError, match="errors draws"):
        registries.of_tree(module, root)
    module.__doc__ = "Small 4 is drawn"
    assert registries.of_tree(module, root) == [(4, small.__name__, "is drawn")]


# --- registries ---


def test_formats_precisions_and_devices_are_the_registrys() -> None:
    found = {row[0].strip("`"): row for row in rows(reference.formats())}
    assert set(found) == set(EXPORTERS)
    for name, exporter in EXPORTERS.items():
        assert found[name][3:5] == [", ".join(exporter.PRECISIONS.get(device, ())) for device in ("cpu", "gpu")]


def test_what_is_added_to_a_registry_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    new = SimpleNamespace(
        BACKEND="new|er",
        PLATFORM="",
        FILENAME="model.new",
        PRECISIONS={"tpu": ("fp8",)},
        PER_GPU=True,
        VERSIONED=("x",),
    )
    monkeypatch.setitem(EXPORTERS, "newest", new)  # type: ignore[arg-type]
    monkeypatch.setitem(labels.SETS, "colours", lambda: ("red",))
    monkeypatch.setitem(datasets.DATASETS, "colours", None)  # type: ignore[arg-type]
    assert "on tpu" in reference.formats()
    assert "| `newest` | <code>new&#124;er</code> | `model.new` |  |  | fp8 | yes | x |" in reference.formats()
    assert "`colours`" in reference.label_sets()
    assert "`colours`" in reference.data_sets()


def test_limits_are_those_of_the_proof() -> None:
    found = {row[0]: row[1:] for row in rows(reference.limits())}
    assert set(found) == set(comparison.LIMITS)
    assert found["fp32"][0] == "1e-05"


def test_every_network_is_there() -> None:
    assert first(reference.networks()) == networks.all_names()


def test_torch_is_imported_for_the_networks_alone() -> None:
    """A process of its own knows nothing that other tests have imported."""
    calls = [(name, argument) for _, name, argument in MARKS if name != "networks"]
    code = (
        "import sys, reference\n"
        f"for name, argument in {calls!r}: reference.MADE[name](*argument.split())\n"
        "print([name for name in ('torch', 'onnx', 'openvino', 'tritonclient') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOOKS, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"


# --- text ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a*b_c", r"a\*b\_c"), ("`a*b` <c>", r"`a*b` \<c>"), ("[x](y)", r"\[x\](y)"), ("plain", "plain")],
)
def test_what_markdown_would_read_is_escaped(given: str, expected: str) -> None:
    assert reference.text(given) == expected


def test_links_out_of_the_pages_lead_to_the_site() -> None:
    def at(uri: str, path: Path) -> Any:
        return SimpleNamespace(src_uri=uri, abs_src_path=str(path))

    guide, inner = (
        at("proof.md", ROOT / "docs" / "proof.md"),
        at("reference/x.md", ROOT / "docs" / "reference" / "x.md"),
    )
    home = at("index.md", ROOT / "README.md")

    def link(text: str, page: Any) -> str:
        return str(pages.on_page_markdown(f"[x]({text})", SimpleNamespace(file=page)))[4:-1]

    assert link("docs/proof.md#the-limits", home) == "proof.md#the-limits"
    assert link("../README.md", guide) == "index.md"
    assert link("../../SECURITY.md", inner) == "../advisories.md"
    assert link("../examples/lite0.py", guide) == "repository/examples/lite0.py"
    assert link("../examples/no.py", guide) == "../examples/no.py"
    assert link("https://example.org/README.md", guide) == "https://example.org/README.md"
    assert link("#the-limits", guide) == "#the-limits"

"""README and docs: what they show is run, as far as it can be, or they say why not."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import page_commands
import page_python
import pytest
from artifact_files import write_onnx
from editors import complaints, kind_of, parsed
from page_blocks import BLOCKS, PAGES, ROOT, Block, of_page, of_text
from typer.testing import CliRunner

from builder.build.entry import resolve
from builder.cli import app as build_repo
from builder.data.recipe import PreprocessRecipe
from builder.errors import BuilderError
from builder.manifest.models import load_manifest
from builder.networks.card import Card, card_path
from builder.training.spec import load_run
from builder.triton.advisories import EMBEDDED
from builder.types import Endpoints
from client.cli import app as repo_client

OUTPUT = {"text", "json"}
"""What programs print: nothing to run."""
RUN_ELSEWHERE = {ROOT / "docs" / "fleet.md"}
"""test_fleet_page.py runs its Python in full."""
README = of_page(ROOT / "README.md")


def faults(block: Block, folder: Path) -> list[str]:
    """What is wrong with a block, and whether anybody would have noticed."""
    if block.kind in OUTPUT:
        return []
    if not block.kind:
        return [f"it is of no kind: fence it, and name one, such as {', '.join([*RUNNERS, *OUTPUT])}"]
    run = RUNNERS.get(block.kind, of_another_language)
    wrong, unseen = run(block, folder)
    wrong += [
        f"there is no {path}" for path in re.findall(r"tests/\S+\.py", block.reason) if not (ROOT / path).exists()
    ]
    if unseen and not block.reason:
        wrong += [f"nothing runs {', '.join(unseen)}: write <!-- not run: REASON --> right before it"]
    return wrong


def of_shell(block: Block, _: Path) -> tuple[list[str], list[str]]:
    wrong, unseen = [], []
    for command in page_commands.commands(block.text):
        try:
            if not page_commands.check(command):
                unseen.append(command[0])
        except page_commands.Wrong as error:
            wrong.append(str(error))
    return wrong, unseen


def of_console(block: Block, folder: Path) -> tuple[list[str], list[str]]:
    """Lines behind a prompt are commands, the others what they print."""
    commands = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
    return of_shell(replace(block, text="\n".join(commands)), folder)


def of_another_language(block: Block, _: Path) -> tuple[list[str], list[str]]:
    return [], [block.kind]


def of_yaml(block: Block, folder: Path) -> tuple[list[str], list[str]]:
    tree = parsed(block.text)
    kind = kind_of(tree)
    if kind is None:
        return [], ["YAML of another program"]
    path = folder / f"{kind}.yaml"
    path.write_text(block.text, encoding="utf-8")
    try:
        loaded(path, tree) if kind == "models" else load_run(path, {})
    except BuilderError as error:
        return [str(error)], []
    return complaints(kind, tree), []


def loaded(path: Path, tree: Any) -> None:
    """As a build does, before it makes anything. Entries that go by a card get one."""
    for entry in filter(None, tree["models"].values()):
        if "network" not in entry and "." in entry.get("weights", ""):
            write_card(path.parent / entry["weights"])
        for key in ("artifact", "reference"):
            if key in entry and not (path.parent / entry[key]).exists():
                write_onnx(path.parent / entry[key])
        if str(entry.get("samples", "")).endswith(".npz"):
            np.savez(path.parent / entry["samples"], **{name: np.zeros((2, 3)) for name in entry["inputs"]})
    assert resolve(load_manifest(path))


def write_card(weights: Path) -> None:
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"")
    recipe = PreprocessRecipe(channels=1, resize=(28, 28), crop=None, mean=(0.5,), std=(0.5,))
    card = Card(
        weights=weights.name,
        sha256=hashlib.sha256(b"").hexdigest(),
        network="lenet",
        arguments={"num_classes": 2},
        recipe=recipe,
        labels=("a", "b"),
        data={},
        training={},
        metrics={},
        software={},
        made_at="2026-01-01",
    )
    card_path(weights).write_text(card.model_dump_json(), encoding="utf-8")


def of_python(block: Block, _: Path) -> tuple[list[str], list[str]]:
    try:
        return page_python.faults(block.text), []
    except SyntaxError as error:
        return [str(error)], []


RUNNERS = {"sh": of_shell, "bash": of_shell, "console": of_console, "yaml": of_yaml, "python": of_python}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in BLOCKS])
def test_a_block_is_right(block: Block, tmp_path: Path) -> None:
    if block.page in RUN_ELSEWHERE and block.kind == "python":
        return
    assert not faults(block, tmp_path), block.place


def test_there_is_much_to_see() -> None:
    kinds = [block.kind for block in BLOCKS]
    assert kinds.count("sh") > 30
    assert (kinds.count("yaml"), kinds.count("python")) >= (8, 3)
    assert {page.name for page in PAGES} >= {"README.md", "start.md", "proof.md", "exit-codes.md"}


def test_the_first_page_is_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert f"Triton {EMBEDDED}" in text


BAD = {
    "an option that there is none of": ("```sh\nbuild-repo serve --no-such-option\n```", "no-such-option"),
    "a command that there is none of": ("```sh\nrepo-client clasify photo.jpg\n```", "clasify"),
    "of a group": ("```sh\nbuild-repo deploy mesos -o x\n```", "mesos"),
    "without what it needs": ("```sh\nrepo-client moderate uploads\n```", "forbid"),
    "behind a pipe": ("<!-- not run: find -->\n```sh\nfind | repo-client classify --csw x\n```", "csw"),
    "behind another program": ("```sh\nsudo build-repo serve\n```", "hides"),
    "a value out of range": ("```sh\nbuild-repo serve --http-port 70000\n```", "70000"),
    "a target that there is none of": ("```sh\nmake demos\n```", "demos"),
    "an extra that there is none of": ("```sh\npip install '.[clients]'\n```", "clients"),
    "a file that there is none of": ("```sh\nbuild-repo train examples/no.yaml\n```", "examples/no.yaml"),
    "another program": ("```sh\ncurl localhost\n```", "nothing runs curl"),
    "a reason further up": ("<!-- not run: curl -->\n\nWords.\n\n```sh\ncurl localhost\n```", "nothing runs curl"),
    "a reason that is none": ("<!-- not run: -->\n```sh\ncurl localhost\n```", "nothing runs curl"),
    "a key that there is none of": ("```yaml\nmodels: {alexnet: {wieghts: random}}\n```", "wieghts"),
    "a key of training": ("```yaml\nnetwork: lenet\ndata: digits\nepoch: 1\n```", "epoch"),
    "a network that there is none of": ("```yaml\nmodels: {alexnett: {weights: DEFAULT}}\n```", "alexnett"),
    "YAML of another program": ("```yaml\nservices: {}\n```", "another program"),
    "no Python": ("```python\nfor\n```", "invalid syntax"),
    "an import": ("```python\nfrom client import Clients\n```", "Clients"),
    "a method": ('```python\nfrom client import Client\nClient("x").clasify(1)\n```', "clasify"),
    "an argument": ('```python\nfrom client import Client\nClient("x").classify(1, tops=2)\n```', "tops"),
    "a field": (
        '```python\nfrom client import Client\nfor p in Client("x").classify(1):\n    print(p.lable)\n```',
        "lable",
    ),
    "a field of a list's": (
        '```python\nfrom client import Client\nfor row in Client("x").classify(["a"]):\n    for p in row:\n'
        "        print(p.lable)\n```",
        "lable",
    ),
    "a test that there is none of": ("<!-- not run: tests/test_no.py does -->\n```sh\ncurl x\n```", "tests/test_no.py"),
    "behind a prompt": ("```console\n$ repo-client top --onse\nMODEL\n```", "onse"),
    "another language": ("```nginx\nlisten 1;\n```", "nothing runs nginx"),
    "no kind": ("```\nls\n```", "of no kind"),
    "only indented": ("Words:\n\n    build-repo\n", "of no kind"),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD.keys())
def test_a_block_that_is_wrong_is_seen(text: str, expected: str, tmp_path: Path) -> None:
    (block,) = of_text(text, ROOT / "page.md")
    assert expected in " ".join(faults(block, tmp_path))


# --- the first page, for real ---

SMALL = """
import torch

def lite0():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 1000))
"""
"""Stands in for the network of the first page, under its name and with as many classes."""
SERVED = "onnx_model"
"""Stands in for the first page's model: the session's server has it."""


def calls(program: str) -> Iterator[list[str]]:
    for block in README:
        if block.kind == "sh":
            yield from (words[1:] for words in page_commands.commands(block.text) if words[0] == program)


def only(kind: str) -> Block:
    (block,) = (block for block in README if block.kind == kind)
    return block


def model() -> str:
    (name,) = parsed(only("yaml").text)["models"]
    return str(name)


def test_the_first_page_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, word by word, in a folder that has what they name."""
    entry = parsed(only("yaml").text)["models"][model()]
    code, _, _ = entry["network"].partition(":")
    (tmp_path / code).parent.mkdir()
    (tmp_path / code).write_text(SMALL, encoding="utf-8")
    builds = [words for words in calls("build-repo") if words[:1] != ["serve"]]
    (manifest,) = {words[words.index("-m") + 1] for words in builds}
    (tmp_path / manifest).write_text(only("yaml").text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for words in builds:
        done = CliRunner().invoke(build_repo, words)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "model_repository" / model() / "1").is_dir()


def shape(text: str) -> list[str]:
    """Of what `classify` prints: the path, and rows without their figures and labels."""
    return [re.sub(r"^ +\d+\.\d{4}%  \S.*$", "ROW", line) for line in text.strip().splitlines()]


def test_the_first_page_classifies(server: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("REPO_CLIENT_URL", server.grpc)
    printed = ""
    for words in calls("repo-client"):
        done = CliRunner().invoke(repo_client, [SERVED if word == model() else word for word in words])
        assert done.exit_code == 0, done.output
        printed = done.stdout if words[0] == "classify" else printed
    assert shape(printed) == shape(only("text").text)


def test_the_first_page_asks_from_python(server: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = only("python").text.replace('"localhost:8001"', json.dumps(server.grpc)).replace(model(), SERVED)
    assert server.grpc in text
    assert SERVED in text
    output = io.StringIO()
    with redirect_stdout(output):
        exec(compile(text, "README.md", "exec"), {})
    assert sorted(line.rpartition(" ")[0] for line in output.getvalue().splitlines()) == ["cat", "dog", "other: thing"]

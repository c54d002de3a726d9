"""What editors are told: all that is good passes the schemas, and whatever a schema can refuse, it refuses."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from editors import KINDS, ROOT, complaints, kind_of, parsed, schema
from page_blocks import BLOCKS
from ruamel.yaml.error import YAMLError

from builder import networks
from builder.build.entry import resolve
from builder.errors import BuilderError
from builder.manifest.models import load_manifest
from builder.schemas import SCHEMAS
from builder.training import datasets
from builder.training.spec import load_run

TESTS = ROOT / "tests"
EXAMPLES = [ROOT / "models.yaml", *sorted(ROOT.glob("examples/*.yaml"))]
BAD = {"models": sorted(TESTS.glob("manifests/**/*.yaml")), "training": sorted(TESTS.glob("trainings/*.yaml"))}
ONLY_THE_LOADER = {
    # Two values are compared.
    "name_clash", "optimum_beyond_the_one_given", "crop_upside_down", "warmup_beyond",
    # The machine, the data or the network must be asked; a word may be a file's name.
    "misspelt_labels", "labels_of_no_set",
    "argument_of_others", "long_name",
    "too_many_threads", "classes_of_others", "labels_of_others", "weights_of_others", "no_such_part",
    "home_of_nobody", "labels_in_the_home_of_nobody", "images_in_the_home_of_nobody",
    # Of named tensors: names and ranges are held to each other, and to the data types.
    "empty_range", "integers_without_range", "name_of_nothing", "name_with_a_quote", "nothing_to_compare_on",
    "output_named_twice", "range_beyond_the_type", "range_of_fractions", "samples_that_are_not_there",
    # JSON has no such values, and takes 0123 for a number.
    "infinite_tolerance", "mean_is_no_number", "endless_rate", "eights",
    # YAML is more than JSON.
    "zero_byte", "half_a_character", "alias_of_itself", "alias_of_itself_merged",
}  # fmt: skip
NO_YAML = {
    "duplicate_name", "duplicate_key_in_quotes", "not_yaml", "second_document", "unknown_tag", "alias_of_nothing",
    "merged_number", "merged_list_of_numbers", "merged_nothing", "merged_two_times", "key_is_an_alias",
}  # fmt: skip
"""What an editor underlines before it asks a schema."""


SHOWN_IN_PAGES = [pytest.param(block.page, block.text, id=block.place) for block in BLOCKS if block.kind == "yaml"]
"""The YAML of README and docs."""
SHOWN = [*SHOWN_IN_PAGES, *(pytest.param(path, path.read_text(encoding="utf-8"), id=path.name) for path in EXAMPLES)]


def load(kind: str, path: Path) -> None:
    """As the commands do before they begin. Raises BuilderError."""
    if kind == "models":
        resolve(load_manifest(path))
        return
    run = load_run(path, {})
    try:
        networks.find(run.spec.network)
        datasets.find(run.spec.data.set)
    except BuilderError as error:
        raise run.error(str(error), "network") from None


def test_there_is_much_to_see() -> None:
    kinds = [kind_of(parsed(param.values[1])) for param in SHOWN]
    assert (kinds.count("models"), kinds.count("training")) >= (6, 2)
    assert {block.page.name for block in BLOCKS} >= {"README.md", "fleet.md", "pictures.md"}


@pytest.mark.parametrize(("page", "text"), SHOWN)
def test_what_is_shown_is_good(page: Path, text: str, tmp_path: Path) -> None:
    del page
    tree = parsed(text)
    kind = kind_of(tree)
    if kind is None:
        return  # of another program
    assert complaints(kind, tree) == []
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    assert load_manifest(tmp_path / "file.yaml") if kind == "models" else load_run(tmp_path / "file.yaml", {})


@pytest.mark.parametrize(("page", "text"), SHOWN)
def test_editors_find_the_schema_that_is_named(page: Path, text: str) -> None:
    named = re.search(r"^# yaml-language-server: \$schema=(.*)$", text, re.M)
    if named is None:
        assert page not in EXAMPLES
        return
    kind = kind_of(parsed(text))
    assert kind
    assert (page.parent / named[1]).resolve() == ROOT / "builder" / f"{kind}.schema.json"


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_fresh(kind: str) -> None:
    assert SCHEMAS[kind]() == schema(kind), "run: make schema"


# --- values in quotes ---


def keys_of(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = (schema(kind) if kind == "training" else schema(kind)["$defs"]["Classification"])[
        "properties"
    ]
    return found


def unquoted(kind: str, properties: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Ways to all the keys whose values are numbers or truth values alone."""
    for key, node in properties.items():
        options = node.get("anyOf", [node])
        groups = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
        types = {option.get("type") for option in options}
        if types & {"integer", "number", "boolean"} and "string" not in types:
            yield (*above, key)
        for group in groups:
            yield from unquoted(kind, schema(kind)["$defs"][group]["properties"], (*above, key))


UNQUOTED = [(kind, keys) for kind in KINDS for keys in unquoted(kind, keys_of(kind))]


@pytest.mark.parametrize(("kind", "keys"), UNQUOTED, ids=[f"{kind}-{'.'.join(keys)}" for kind, keys in UNQUOTED])
def test_what_is_in_quotes_is_text_to_both(kind: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    for text in ("1", "true"):
        value: Any = text
        for key in reversed(keys):
            value = {key: value}
        tree = {"models": {"alexnet": value}} if kind == "models" else {"network": "lenet"} | value
        (tmp_path / "file.yaml").write_text(json.dumps(tree), encoding="utf-8")
        assert complaints(kind, tree)
        with pytest.raises(
            BuilderError,
            match=r"valid (integer|number|boolean|tuple)|keys and their values|Input should be (1 or 3|True)",
        ):
            load(kind, tmp_path / "file.yaml")


# --- the tests' own manifests ---


def is_text(node: ast.AST) -> TypeGuard[ast.expr]:
    """Whether an expression may be a manifest."""
    parts = ast.walk(node) if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) else ()
    return any(isinstance(part, ast.Constant) and "models:" in str(part.value) for part in parts)


def texts_of(path: Path) -> Iterator[str]:
    """The manifests that a test file writes, as far as they need nothing that only a test has."""
    texts = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if is_text(node)]
    names = vars(importlib.import_module(path.stem)) if texts else {}
    for node in texts:
        with suppress(Exception):  # it has a value inside of its test alone
            value = eval(compile(ast.Expression(node), path.name, "eval"), dict(names))
            if isinstance(value, str) and value.lstrip().startswith("models:"):
                yield value


def test_good_manifests_of_the_tests_are_good(tmp_path: Path) -> None:
    """Those that can be planned: some are bad on purpose."""
    texts = {text for path in [TESTS / "conftest.py", *sorted(TESTS.glob("test_*.py"))] for text in texts_of(path)}
    good = []
    for number, text in enumerate(sorted(texts)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        with suppress(BuilderError):
            load("models", path)
            good.append(text)
    found = {text: wrong for text in good if (wrong := complaints("models", parsed(text)))}
    assert not found
    assert len(good) > 20


# --- bad files ---


def refused_by_an_editor(kind: str, path: Path) -> str:
    try:
        tree = parsed(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeError):
        return "YAML"
    except RecursionError:
        return "YAML"
    return "schema" if complaints(kind, tree) else ""


BAD_FILES = [pytest.param(kind, path, id=f"{kind}-{path.stem}") for kind, paths in BAD.items() for path in paths]


@pytest.mark.parametrize(("kind", "path"), BAD_FILES)
def test_what_a_schema_can_refuse_it_refuses(kind: str, path: Path) -> None:
    """That the loader refuses all of them, test_manifest.py and test_training.py see."""
    expected = "" if path.stem in ONLY_THE_LOADER else "YAML" if path.stem in NO_YAML else "schema"
    assert refused_by_an_editor(kind, path) == expected


def test_the_lists_name_files_that_there_are() -> None:
    stems = {path.stem for paths in BAD.values() for path in paths}
    assert stems >= ONLY_THE_LOADER | NO_YAML

"""Files as nobody would write them: the loader takes them or says file and line, and editors are told the same."""

import io
import json
import operator
import re
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pytest
from editors import complaints, parsed, schema
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from test_schemas import load

from builder.errors import BuilderError, ManifestError
from builder.manifest.models import load_manifest
from builder.util import yamltree

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
MANY = settings(PATIENT, max_examples=200)
WORDS = [
    "", "a", "x.py:make", ":", "a:b:c", "runs/w.pth", "w.safetensors", "/", ".", "..", "../", "a/", "~", "random",
    "~no-such-user", "included", "DEFAULT", "none", "8", "1e3", "0123", ".nan", "yes", "true", "null", "<<", "é", "a b",
    "\u2028", "2024-02-31", "# no", "- no", "{", "*a", "&a", "\t", "x" * 300, "a/" + "x" * 300,
]  # fmt: skip
TEXTS = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.sampled_from([0, 1, -1, 3, 8, 64, 65, 1024, 2**32, 2**63, 2**64, 10**30, 0.5, 1.0, 1e-9, 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from([float("inf"), float("-inf"), float("nan")])
ODD = st.recursive(
    SCALARS, lambda some: st.lists(some, max_size=3) | st.dictionaries(TEXTS, some, max_size=2), max_leaves=4
)
NAMES = st.sampled_from([*["alexnet", "lenet", "a", "0"] * 4, "alexnet_torchscript", "1.5", "é", "my model", "<<"])
STARTS = [
    {}, {"weights": "a/b.pth"}, {"network": "lenet", "weights": "random"}, {"network": "alexnet"},
    {"network": "x.py:make", "weights": "included", "preprocess": {"channels": 3, "crop": 8}},
]  # fmt: skip
# What a schema cannot say, by the words of the refusals.
BEYOND_A_SCHEMA = re.compile(
    "published under this name|cores are granted|cores, and|the largest batch is|the least share|no home folder"
    r"|neither a set of labels nor a file|\.(artifact|reference): "
    "|warmup_epochs is longer|a zero byte|finite number|does not exist; train it|is not beside it|digits is beyond"
    r"|valid integer.*it says -?[0-9.e+]+\)|cannot be read|no such argument|too long by"
)
DEFINITIONS = {kind: schema(kind)["$defs"] for kind in ("models", "training")}


def of_schema(node: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of pydantic's part of a schema; the conditions beside it are left to chance."""
    if "$ref" in node:
        return of_schema(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "enum" in node or "const" in node:
        return st.sampled_from(node.get("enum") or [node["const"]])
    if "anyOf" in node and "type" not in node:
        return st.one_of(of_schema(option, definitions) for option in node["anyOf"])
    made = {
        "null": st.none,
        "boolean": st.booleans,
        "string": lambda: st.sampled_from(named(node)) if "anyOf" in node else TEXTS,
        "integer": lambda: numbers(node).map(int),
        "number": lambda: numbers(node),
        "array": lambda: st.lists(
            of_schema(node["items"], definitions), min_size=node.get("minItems", 0), max_size=node.get("maxItems", 3)
        ),
        "object": lambda: objects(node, definitions),
    }
    return made[node["type"]]()


def named(node: dict[str, Any]) -> list[str]:
    """Registered names, as far as they differ, and one of the user's own."""
    return [name for option in node["anyOf"] for name in option.get("enum", ["x.py:make"])[-3:]]


def numbers(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """At the bounds, and a little within."""
    least = node.get("minimum", node.get("exclusiveMinimum", 0) + 0.25 * ("exclusiveMinimum" in node))
    most = node.get("maximum", node.get("exclusiveMaximum", least + 9) - 0.125 * ("exclusiveMaximum" in node))
    return st.sampled_from([least, most, (least + most) / 2, least + (most - least) / 8])


def objects(node: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    if node.get("additionalProperties") is not False:
        return st.dictionaries(TEXTS, ODD, max_size=2)
    keys = node["properties"]
    some = st.lists(st.sampled_from(sorted(keys)), max_size=4, unique=True)
    return some.flatmap(lambda chosen: st.fixed_dictionaries({key: spoilt(keys[key], definitions) for key in chosen}))


def spoilt(node: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A value of the schema, seldom its text in quotes, or another one."""
    good = of_schema(node, definitions)
    others = {18: good.map(lambda value: value if isinstance(value, dict | list) else str(value)), 19: ODD}
    return st.integers(0, 19).flatmap(lambda dice: others.get(dice, good))


ENTRIES = st.one_of(
    *(
        of_schema({"$ref": "Classification"}, DEFINITIONS["models"]).map(partial(operator.or_, start))
        for start in STARTS
    ),
    SCALARS,
)
MANIFESTS = st.dictionaries(NAMES, ENTRIES, max_size=2).map(lambda models: {"models": models})
TRAININGS = of_schema(
    {key: schema("training")[key] for key in ("type", "properties", "additionalProperties")}, DEFINITIONS["training"]
).map(lambda keys: {"network": "lenet"} | keys)


def as_yaml(tree: Any) -> str:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(tree, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd") / "file.yaml"


def judged(kind: str, path: Path, text: str | bytes) -> str:
    """The loader's refusal, with file and line in each of its lines; or nothing."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    try:
        load(kind, path)
    except BuilderError as error:
        refusal = str(error)
    else:
        return ""
    places = re.compile(rf"{re.escape(str(path))}(:\d+: | is UTF-(16|32); save it as UTF-8$)|and \d+ more$")
    assert not [line for line in refusal.split("\n") if not places.match(line)], refusal
    return refusal


def hold_to_the_schema(kind: str, path: Path, tree: Any) -> None:
    text = as_yaml(tree)
    refusal, wrong = judged(kind, path, text), complaints(kind, json.loads(json.dumps(tree)))
    event(f"loader {'refuses' if refusal else 'takes'}, schema {'refuses' if wrong else 'takes'}")
    if not refusal:
        assert wrong == [], text
    if not wrong:
        assert refusal == "" or BEYOND_A_SCHEMA.search(refusal), f"{refusal}\n{text}"


@given(MANIFESTS)
@MANY
def test_manifests_are_taken_by_both_or_refused_with_file_and_line(path: Path, tree: Any) -> None:
    hold_to_the_schema("models", path, tree)


@given(TRAININGS)
@MANY
def test_trainings_are_taken_by_both_or_refused_with_file_and_line(path: Path, tree: Any) -> None:
    hold_to_the_schema("training", path, tree)


@given(st.text(st.sampled_from("ab:{}[],&* <\n-'\"!#|>%?0.~"), max_size=40))
@MANY
def test_any_signs_are_a_manifest_or_a_refusal(path: Path, text: str) -> None:
    judged("models", path, f"models:\n{text}")


# --- good files, spoilt ---

GOOD = {
    "models": [
        "models:\n  alexnet:\n  vgg16: {weights: IMAGENET1K_V1, format: onnx, max_batch_size: 16}\n",
        "models:\n  flowers: &base\n    network: lenet\n    arguments: {num_classes: 5}\n    weights: runs/best.ckpt\n"
        "    labels: [rose, 'tulip', 3]\n    images: {data: val, samples: 16}\n  more: {<<: *base, seed: 0x1F}\n",
        "# yaml-language-server: $schema=builder/models.schema.json\nmodels:\n  mine:\n    network: nets/mine.py:make\n"
        "    weights: included\n    preprocess: {channels: 3, resize: 256, crop: 224, mean: [0.5, 0.5, 0.5], std: "
        "[.5, 5e-1, 0.5]}\n    tolerance: {noise: 0.1}\n    precision: int8\n    calibration: ~/photos\n",
    ],
    "training": [
        "network: lenet\ndata: digits\nepochs: 2\nlr: 1e-3\noptimizer: {name: sgd, momentum: 0.9}\n",
        "network: vgg16\nweights: DEFAULT\nlearn: [classifier]\nunfreeze: {epoch: 4, lr: 0.00001}\ndata:\n"
        "  set: image_folder\n  root: data/flowers\n  validation: 0.2\naugment: {resized_crop: [0.6, 1], flip: 0.5}\n"
        "class_weights: balanced\nsamples: {heldout: 500}\nout: runs/flowers\n",
    ],
}
SPLINTERS = [
    b"", b" ", b"  ", b"\n", b"\n  ", b"\t", b":", b": ", b"-", b"- ", b"[", b"]", b"{", b"}", b",", b"'", b'"', b"#",
    b"&a ", b"*a", b"*base", b"<<: ", b"!!int ", b"!x ", b"|", b">", b"%", b"@", b"---\n", b"...\n", b"? ", b"\\",
    b"0", b"9" * 50, b"-1", b".nan", b"1e999", b"null", b"~", b"true", b"2024-02-31", b"models: ", b"[" * 200,
    b"\xe9", b"\xff\xfe", b"\0", b"\x7f", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\r\n", b'"\\x', b'"\\ud800"',
    "é\u2028\u0085".encode(),
]  # fmt: skip
BLOWS = st.tuples(st.integers(0, 999), st.integers(0, 12), st.sampled_from(SPLINTERS))


def struck(content: bytes, blow: tuple[int, int, bytes]) -> bytes:
    """Some bytes of it replaced."""
    at = len(content) * blow[0] // 1000
    return content[:at] + blow[2] + content[at + blow[1] :]


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data(), blows=st.lists(BLOWS, min_size=1, max_size=3))
@settings(PATIENT, max_examples=250, derandomize=True)
def test_spoilt_files_are_read_or_refused_with_file_and_line(
    kind: str, data: st.DataObject, blows: list[tuple[int, int, bytes]], path: Path
) -> None:
    content = data.draw(st.sampled_from(GOOD[kind])).encode()
    refusal = judged(kind, path, reduce(struck, blows, content))
    event("refused" if refusal else "read")


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_spoilt_was_good(kind: str, path: Path) -> None:
    assert [judged(kind, path, text) for text in GOOD[kind]] == [""] * len(GOOD[kind])


# --- aliases and merge keys ---


@st.composite
def woven(draw: st.DrawFn) -> str:
    """YAML of anchors, aliases and merge keys, each of something above it."""
    anchors: list[str] = []
    mappings: list[str] = []

    def value(depth: int) -> str:
        kind = draw(st.sampled_from(["scalar", "alias", *depth * ["list", "mapping", "mapping"]]))
        if kind == "alias" and anchors:
            return f"*{draw(st.sampled_from(anchors))} "
        if kind == "mapping":
            text = mapping(depth)
        elif kind == "list":
            text = f"[{', '.join(value(depth - 1) for _ in range(draw(st.integers(0, 3))))}]"
        else:
            text = draw(st.sampled_from(["1", "x", "'2'", "0.5", "true", "null"]))
        return anchored(text, kind == "mapping") if draw(st.booleans()) else text

    def anchored(text: str, is_mapping: bool) -> str:
        name = f"n{len(anchors)}"
        anchors.append(name)
        mappings.extend([name] * is_mapping)
        return f"&{name} {text}"

    def mapping(depth: int) -> str:
        parts: list[str] = []
        merge_at = draw(st.integers(0, 6))
        for number, key in enumerate(draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=4))):
            if number == merge_at and mappings:
                parts.append(f"<<: {merged()}")
            parts.append(f"{key}: {value(depth - 1)}")
        return f"{{{', '.join(parts)}}}"

    def merged() -> str:
        sources = draw(st.lists(st.sampled_from(mappings), min_size=1, max_size=3, unique=True))
        return f"*{sources[0]} " if len(sources) == 1 else f"[{', '.join(f'*{name} ' for name in sources)}]"

    return "".join(f"k{number}: {value(3)}\n" for number in range(draw(st.integers(1, 6))))


@given(woven())
@MANY
def test_merges_and_aliases_are_those_of_others(text: str) -> None:
    event(f"merges: {min(text.count('<<'), 3)}")
    assert yamltree.plain(yamltree.read(text)) == parsed(text)


MISTAKES = [
    "formt: onnx", "format: 3", "seed: -1", "preprocess: {crop: 0}", "labels: [true]", "threads: x", "instances: .inf",
]  # fmt: skip
USES = [
    "{0}: *a",
    "{0}: {{<<: *a, network: alexnet}}",
    "{0}: {{<<: [{{weights: DEFAULT}}, *a]}}",
    "{0}: {{arguments: {{}}, <<: *a}}",
    "{0}: &{0} {{<<: [*a, *a]}}\n  of_{0}: {{<<: *{0}}}",
    "{0}: {{<<: {{<<: *a}}}}",
]


@given(st.sampled_from(MISTAKES), st.lists(st.sampled_from(USES), min_size=1, max_size=4), st.booleans())
@example("format: 3", USES, True)
@PATIENT
def test_a_mistake_is_told_where_it_was_written(path: Path, mistake: str, uses: list[str], is_entry: bool) -> None:
    """And by which lines it got elsewhere."""
    base = "alexnet: &a" if is_entry else "alexnet:\n    arguments: &a"
    above = f"models:\n  {base}\n      weights: random\n"
    entries = "".join(f"  {use.format(f'm{number}')}\n" for number, use in enumerate(uses))
    path.write_text(f"{above}      {mistake}\n{entries}", encoding="utf-8")
    written = above.count("\n") + 1
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert not [line for line in str(caught.value).split("\n") if not line.startswith(f"{path}:{written}: models.")]
    lines = re.findall(r"brought in by lines? ([\d, ]+)", str(caught.value))
    told = {int(number) for found in lines for number in found.split(",")}
    assert told == {written + 1 + number for number in range(entries.count("\n"))}


@pytest.mark.parametrize("text", ["models: " + "[" * 3000, "{a: " * 3000, "- " * 3000, "&a [" * 3000])
def test_deep_nesting_is_refused(path: Path, text: str) -> None:
    assert "more than 100 levels of nesting" in judged("models", path, text)


def test_aliases_of_aliases_are_as_deep_as_what_they_name(path: Path) -> None:
    lines = ["  a0: &a0 []", *(f"  a{number}: &a{number} [*a{number - 1}]" for number in range(1, 200))]
    assert re.search(r":\d+: more than 100 levels", judged("models", path, "models:\n" + "\n".join(lines)))

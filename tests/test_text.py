"""Vectors and classes of texts: built, proved, and asked on the real embedded server."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from conftest import ANY_PORTS, build
from tokenizing import write_tokenizer
from tritonclient.utils import InferenceServerException

from builder.data import texts
from builder.errors import BuilderError, ExportError, ManifestError, VerificationError
from builder.launchers import LAUNCHERS
from builder.repository.served import read_intact, requirements
from builder.types import BuiltModel

NETWORKS = Path(__file__).parent / "networks" / "readers.py"
MOST_BYTES = 20_000
LEAST_COSINE = 0.9999
CALIBRATION = "We meet at noon.\nDer Zug ist pünktlich.\nprint('hello', 42)\n明日は雨です。\nOne more line of text.\n"


def entry(name: str = "m", network: str = "Encoder", **keys: str) -> str:
    said = {
        "task": "text",
        "network": network and f"readers.py:{network}",
        "weights": "included",
        "tokenizer": "tokenizer.json",
        "max_length": "64",
        "format": "torchscript",
        "max_batch_size": "4",
    } | ({} if "activation" in keys else {"pool": "mean"})
    listed = said | keys
    return f"  {name}:\n" + "".join(f"    {key}: {value}\n" for key, value in listed.items() if value)


def made(folder: Path, *entries: str, tokens: int = 300) -> list[BuiltModel]:
    shutil.copy(NETWORKS, folder)
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder / "tokenizer.json", tokens)
    (folder / "calibration.txt").write_text(CALIBRATION, encoding="utf-8")
    return build(folder, "models:\n" + "".join(entries))


class Asked:
    """A server that answers for a repository."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.client = grpc.InferenceServerClient(url)

    def __call__(self, model: str, *given: str | bytes) -> np.ndarray:
        data = [one.encode() if isinstance(one, str) else one for one in given]
        tensor = grpc.InferInput("TEXT", [len(data), 1], "BYTES")
        tensor.set_data_from_numpy(np.array(data, np.object_)[:, None])
        answer = self.client.infer(model, [tensor])
        (output,) = answer.get_response().outputs
        return answer.as_numpy(output.name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asked, dict[str, BuiltModel]]]:
    folder = tmp_path_factory.mktemp("readers")
    built = made(
        folder,
        entry("onnx", format="onnx", normalize="l2", max_text_bytes=str(MOST_BYTES)),
        entry("openvino", format="openvino", pool="cls"),
        entry("kinds", "Kinds"),
        entry("sentences", "Sentences", pool="none"),
        entry("classes", "Classes", activation="softmax", labels="[good, bad, odd]", format="onnx"),
        entry("tags", "Classes", activation="sigmoid", labels="[good, bad, odd]"),
        entry("int8", format="openvino", precision="int8", calibration="calibration.txt"),
    )
    running = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    yield Asked(folder, running.endpoints.grpc), {model.name: model for model in built}
    running.stop()


TEXTS = (
    "Hello there",
    "",
    "Ein längerer Satz, mit Zahlen wie 1234 und mehr Wörtern als der erste.",
    "日本語 👍🏽",
    "a\0b",
    "word " * 2000,
)


def own(folder: Path, model: str, *given: str) -> np.ndarray:
    """The network's own pipeline, written out for these: tokenizers, and PyTorch, a text at a time, without padding."""
    from tokenizers import Tokenizer

    from tests.networks import readers

    reader = Tokenizer.from_file(str(folder / "tokenizer.json"))
    reader.enable_truncation(64)
    kind = {"kinds": "Kinds", "sentences": "Sentences", "classes": "Classes", "tags": "Classes"}.get(model, "Encoder")
    network = getattr(readers, kind)().eval()
    rows = []
    for text in given:
        ids = torch.tensor([reader.encode(text).ids])
        arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if model == "kinds":
            arguments["token_type_ids"] = torch.zeros_like(ids)
        with torch.inference_mode():
            found = network(**arguments)
        found = found["last_hidden_state"] if model == "kinds" else found
        row = found[0] if found.ndim == 2 else found[0, 0] if model == "openvino" else found[0].mean(0)
        row = {"onnx": lambda r: r / r.norm(), "classes": lambda r: r.softmax(0), "tags": torch.sigmoid}.get(
            model, lambda r: r
        )(row)
        rows.append(row.numpy())
    return np.stack(rows)


@pytest.mark.parametrize("model", ["onnx", "openvino", "kinds", "sentences", "classes", "tags"])
def test_from_the_text_to_the_answer_the_server_gives_what_the_network_gives(served, model: str) -> None:
    ask, _ = served
    expected = own(ask.folder, model, *TEXTS)
    alone = np.concatenate([ask(model, text) for text in TEXTS])
    together = np.concatenate([ask(model, *TEXTS[:4]), ask(model, *TEXTS[4:])])
    assert alone.dtype == np.float32
    for found in (alone, together):
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_clients_are_told_what_the_answers_are(served) -> None:
    ask, built = served
    for name, output, shape in (("onnx", "EMBEDDING", [-1, 16]), ("classes", "PROBABILITIES", [-1, 3])):
        told = ask.client.get_model_metadata(name)
        assert [(one.name, one.datatype, list(one.shape)) for one in told.inputs] == [("TEXT", "BYTES", [-1, 1])]
        assert [(one.name, one.datatype, list(one.shape)) for one in told.outputs] == [(output, "FP32", shape)]
    parameters = {
        name: {key: one.string_value for key, one in ask.client.get_model_config(name).config.parameters.items()}
        for name in ("onnx", "openvino", "classes", "tags")
    }
    assert {parameters[name]["task"] for name in parameters} == {"text"}
    assert [parameters["onnx"][key] for key in ("normalize", "pool", "max_text_bytes")] == [
        "l2",
        "mean",
        str(MOST_BYTES),
    ]
    assert [parameters["openvino"][key] for key in ("normalize", "pool", "max_text_bytes")] == [
        "none",
        "cls",
        str(1 << 20),
    ]
    assert [parameters[name]["activation"] for name in ("classes", "tags")] == ["softmax", "sigmoid"]
    assert built["classes"].classes == 3
    assert built["onnx"].classes is None


def test_tritons_own_extension_tells_classes(served) -> None:
    ask, _ = served
    tensor = grpc.InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"Hello there"]], np.object_))
    wanted = grpc.InferRequestedOutput("PROBABILITIES", class_count=1)
    (said,) = ask.client.infer("classes", [tensor], outputs=[wanted]).as_numpy("PROBABILITIES")[0]
    expected = ["good", "bad", "odd"][own(ask.folder, "classes", "Hello there")[0].argmax()]
    assert said.decode().split(":")[2] == expected


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"\xff", "no UTF-8: the byte 0xff at 0"),
        (b"ab\xed\xa0\x80", "no UTF-8: the byte 0xed at 2"),
        (b"a" * (MOST_BYTES + 1), f"{MOST_BYTES + 1} bytes; at most {MOST_BYTES} are accepted"),
        (b"a" * 10_000_000, "10000000 bytes; at most"),
    ],
)
def test_a_text_that_cannot_be_taken_fails_alone(served, bad: bytes, message: str) -> None:
    """Its neighbours come at the same time, from others."""
    ask, _ = served
    expected = own(ask.folder, "onnx", "Hello there")

    def attempt(text: bytes) -> str | np.ndarray:
        try:
            return ask("onnx", text)
        except InferenceServerException as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(attempt, [b"Hello there", bad] * 8))
    for good, refused in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(good, expected, atol=1e-5)
        assert message in refused


def test_precisions_below_fp32_are_served_within_their_limits(served) -> None:
    ask, built = served
    figures = built["int8"].verification.figures()
    assert figures["cosine"] >= 0.9
    assert figures["relative_error"] > 0
    ours, theirs = ask("int8", *TEXTS[:4]), own(ask.folder, "int8", *TEXTS[:4])
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() >= 0.9


def test_builds_tell_how_near_the_answers_are(served) -> None:
    _, built = served
    for name in ("onnx", "openvino", "kinds", "sentences"):
        figures = built[name].verification.figures()
        assert figures["cosine"] >= LEAST_COSINE, name
        assert figures["neighbour_agreement"] == 1, name
    assert built["classes"].verification.figures()["top1_agreement"] == 1


def test_steps_are_shared_and_bring_their_tokenizer(served) -> None:
    ask, built = served
    repository = ask.folder / "repository"
    steps = {model.preprocess_model for model in built.values()}
    assert len(steps) == 3  # of fewer bytes, with kinds of tokens, and of all others
    for name in steps:
        held = (repository / str(name) / "1" / "tokenizer.json").read_bytes()
        assert held == (ask.folder / "tokenizer.json").read_bytes()
    assert [one.partition("==")[0] for one in requirements(read_intact(repository))] == ["tokenizers"]


def test_another_tokenizer_is_another_step(tmp_path: Path) -> None:
    (before,) = made(tmp_path, entry())
    write_tokenizer(tmp_path / "tokenizer.json", 250)
    (after,) = made(tmp_path, entry())
    assert before.preprocess_model != after.preprocess_model


REFUSED = {
    "Blind": (VerificationError, "depends on its padding"),
    "OfTheBatch": (VerificationError, "depends on (the other texts|its padding)"),
    "NotANumber": (VerificationError, "NaN or infinite numbers for line 1 of texts.txt"),
    "ByChance": (VerificationError, "when it is run twice"),
    "OneInput": (ExportError, "does not take texts; it is to take input_ids and attention_mask"),
    "Sentences": (BuilderError, r"with `pool: mean`.*this gives \[.*set `pool: none`"),
}


@pytest.mark.parametrize("network", REFUSED)
def test_networks_that_are_wrong_are_refused(network: str, tmp_path: Path) -> None:
    error, message = REFUSED[network]
    with pytest.raises(error, match=message):
        made(tmp_path, entry("m", network))
    assert not (tmp_path / "repository" / "m").exists()


KEYS = {
    "no tokenizer": ({"tokenizer": ""}, ManifestError, "give `tokenizer: tokenizer.json`"),
    "tokenizer is away": ({"tokenizer": "other.json"}, ManifestError, "other.json is not there"),
    "tokenizer is broken": ({"tokenizer": "calibration.txt"}, ManifestError, "is no tokenizer"),
    "no pool": ({"pool": ""}, ManifestError, "give `pool: mean`"),
    "no length": ({"max_length": ""}, ManifestError, "give `max_length:`"),
    "positions": ({"max_length": "65"}, VerificationError, "fails on 65 tokens; give a smaller `max_length:`"),
    "short": ({"max_length": "2"}, ManifestError, "max_length"),
    "wrong pool": ({"pool": "none"}, BuilderError, "one vector a text.*set `pool: mean`"),
    "labels of vectors": ({"labels": "[a, b]"}, ManifestError, "set `activation: softmax`"),
    "figure of classes": ({"tolerance": "{top1_agreement: 0.5}"}, ManifestError, "no such figure"),
    "pool of a classifier": (
        {"network": "Classes", "activation": "softmax", "pool": "mean"},
        ManifestError,
        "the network classifies",
    ),
    "classes of an encoder": ({"activation": "softmax"}, BuilderError, r"scores \[B, classes\]"),
    "number of labels": (
        {"network": "Classes", "activation": "softmax", "labels": "[a, b]"},
        ManifestError,
        "there are 2 labels for 3 classes",
    ),
    "probabilities already": (
        {"network": "Shares", "activation": "softmax"},
        VerificationError,
        "set `activation: none`",
    ),
    "no probabilities": (
        {"network": "Classes", "activation": "none"},
        VerificationError,
        "must give probabilities itself",
    ),
    "no texts": ({"texts": "empty.txt"}, ManifestError, "empty.txt has no texts"),
    "texts are away": ({"texts": "gone.txt"}, ManifestError, "gone.txt cannot be read"),
    "int8": ({"precision": "int8"}, ManifestError, "int8 needs `calibration: FILE`"),
    "artifact": (
        {"network": "", "weights": "", "format": "onnx", "artifact": "small.onnx", "max_batch_size": "1"},
        ManifestError,
        "cannot be served as it is",
    ),
}


@pytest.mark.parametrize("case", KEYS)
def test_keys_that_are_wrong_are_named(case: str, tmp_path: Path) -> None:
    keys, error, message = KEYS[case]
    (tmp_path / "empty.txt").write_text("\n  \n")
    if "artifact" in keys:
        rows = torch.ones(1, 4, dtype=torch.int64)
        torch.onnx.export(torch.nn.Embedding(9, 2), (rows,), str(tmp_path / "small.onnx"), dynamo=True, verbose=False)
    with pytest.raises(error, match=message):
        made(tmp_path, entry("m", **keys))
    assert not (tmp_path / "repository" / "m").exists()


def test_a_tokenizer_of_another_network_is_refused_before_it_ends_a_server(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"numbers up to 3\d\d, and the network fails on that"):
        made(tmp_path, entry(), tokens=400)


def test_texts_of_ones_own_are_what_it_is_verified_on(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("one\r\n\r\ntwo words here\nand a third one\n", encoding="utf-8")
    (built,) = made(tmp_path, entry(texts="own.txt", max_batch_size="2"))
    assert built.verification.samples == 3
    golden = (tmp_path / "repository" / "m" / "1" / "golden.json").read_text()
    assert "dHdvIHdvcmRz" not in golden  # `two words`: none of the user's texts is published


def test_padding_and_cutting_are_the_entrys_not_the_files(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from builder.steps import STEPS
    from builder.steps.tokenizer import settings_of, tokenizer

    file = write_tokenizer(tmp_path / "tokenizer.json")
    plain = Tokenizer.from_file(str(file))
    changed = Tokenizer.from_file(str(file))
    changed.enable_padding(length=50, pad_id=1, pad_token="[UNK]", direction="left")
    changed.enable_truncation(5)
    changed.save(str(tmp_path / "other.json"))
    settings, largest = settings_of(tmp_path / "other.json", 12, 1000)
    assert (settings.pad_id, settings.padding_side, largest) == (1, "left", plain.get_vocab_size() - 1)
    assert settings_of(tmp_path / "other.json", None, 1000)[0].max_length == 5
    ids, mask = STEPS["tokenizer"].function(settings)(b"hello")
    assert ids.tolist() == plain.encode("hello").ids
    assert mask.tolist() == [1] * len(ids)
    long, _ = STEPS["tokenizer"].function(settings)(b"word " * 100)
    assert (len(long), long[0], long[-1]) == (12, 2, 3)
    read = tokenizer(settings)
    rows, masks = read.rows(read.encoded([b"hello there my friend", b"a"]))
    assert rows[1].tolist()[-3:] == plain.encode("a").ids
    assert set(rows[1].tolist()[:-3]) == {1}
    assert masks[1].sum() == 3


def test_a_text_without_tokens_is_one_token_of_padding(tmp_path: Path) -> None:
    from builder.steps.tokenizer import function, settings_of

    settings, _ = settings_of(write_tokenizer(tmp_path / "tokenizer.json", special=False), 12, 1000)
    ids, mask = function(settings)(b"")
    assert (ids.tolist(), mask.tolist()) == ([0], [0])


def test_own_texts_are_of_many_kinds() -> None:
    found = [one.text for one in texts.own()]
    assert len(found) >= 40
    assert "" in found
    assert max(map(len, found)) == 10_000
    scripts = {"Cyrillic": "п", "Greek": "λ", "Arabic": "ق", "Hebrew": "ס", "Han": "天", "Hangul": "오", "Thai": "ว"}
    for name, letter in scripts.items():
        assert any(letter in text for text in found), name

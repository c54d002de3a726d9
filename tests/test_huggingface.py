"""Snapshots of transformers as networks: found, read without running code, fitted strictly; what is wrong is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import build, write_manifest

from builder import networks
from builder.build.inputs import Reading
from builder.build.run import resolve
from builder.errors import BuilderError, ManifestError, NetworkError, WeightsError
from builder.manifest.models import load_manifest
from builder.networks.huggingface import hub
from builder.tasks.spec import names_file
from builder.types import Network, NetworkRequest, WeightsSource
from builder.util.remembered import Digests
from tests.snapshots import NAMED, PATCHES, SQUARE, minilm, picture_snapshot, text_snapshot

VIT = PATCHES | {"image_size": 64, "patch_size": 16}


def make(name: str | Path, weights: str | Path = "snapshot", base: Path = Path(), **arguments: Any) -> Network:
    named = f"hf:{name}" if isinstance(name, Path) else name
    is_file = isinstance(weights, Path)
    kind = "file" if is_file else "random" if weights == "random" else "named"
    source = WeightsSource(kind, str(weights), weights if isinstance(weights, Path) else None)
    return networks.find(named).make(NetworkRequest(named, source, arguments, base))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of pictures, an encoder and a classifier of texts; copies of them are broken."""
    root = tmp_path_factory.mktemp("kept")
    picture_snapshot(root / "vit", "ViT", "ForImageClassification", VIT, "ViT", **SQUARE)
    text_snapshot(root / "bert")
    text_snapshot(root / "stars", "Bert", "ForSequenceClassification", num_labels=3)
    return root


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Any:
    def copy(name: str, **config: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(kept / name, folder)
        change(folder / "config.json", **config)
        return folder

    return copy


def change(path: Path, **values: Any) -> None:
    """A JSON file's keys; None takes one away."""
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def states(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save(folder: Path, state: dict[str, Any], name: str = "model.safetensors") -> None:
    from safetensors.torch import save_file

    save_file(state, folder / name, metadata={"format": "pt"})


def refused(error: type[BuilderError], folder: Path, *said: str, **arguments: Any) -> None:
    with pytest.raises(error) as caught:
        make(folder, **arguments)
    for words in said:
        assert words in str(caught.value)


def test_a_folder_is_a_network_with_labels_recipe_and_provenance(kept: Path) -> None:
    found = make(kept / "vit")
    assert found.labels == tuple(NAMED.values())
    assert found.recipe
    assert found.recipe.shape == (3, 64, 64)
    assert (found.trained, found.provenance["architecture"]) == (True, "ViTForImageClassification")
    assert len(found.provenance["weights_sha256"]) == 64
    assert {parameter.dtype.itemsize for parameter in found.module.parameters()} == {4}


def test_what_a_text_snapshot_tells(kept: Path) -> None:
    encoder, classifier = make(kept / "bert").texts, make(kept / "stars")
    assert encoder
    assert (encoder.max_length, encoder.pool, encoder.normalize, encoder.activation) == (
        66,
        None,
        False,
        None,
    )
    assert encoder.tokenizer == (kept / "bert" / "tokenizer.json").resolve()
    assert classifier.texts
    assert classifier.texts.activation == "softmax"
    assert classifier.labels is None  # LABEL_0 and so on are no names


def test_sentence_transformers_say_how_a_text_gets_its_vector() -> None:
    told = make(minilm()).texts
    assert told
    assert (told.max_length, told.pool, told.normalize) == (256, "mean", True)


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"problem_type": "regression"}, "none"),
        ({"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}, "sigmoid"),
    ],
)
def test_activations_are_those_of_transformers_pipelines(copied: Any, config: Any, activation: str) -> None:
    folder = copied("stars", **config)
    told = make(folder, "random").texts
    assert told
    assert told.activation == activation


def test_roberta_keeps_positions_for_padding(tmp_path: Path) -> None:
    told = make(text_snapshot(tmp_path / "roberta", "Roberta")).texts
    assert told
    assert told.max_length == 64


def test_half_precision_is_widened(copied: Any) -> None:
    import torch

    folder = copied("vit")
    whole = make(folder).module.state_dict()
    save(folder, {key: value.to(torch.bfloat16) for key, value in states(folder).items()})
    found = make(folder).module.state_dict()
    assert all((found[key] == value.to(torch.bfloat16).float()).all() for key, value in whole.items())


def test_weights_in_several_files_are_one_network(copied: Any) -> None:
    folder = copied("vit")
    before, state = make(folder).module.state_dict(), states(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in parts.items():
        save(folder, {key: state[key] for key in keys}, file)
    mapped = {key: file for file, keys in parts.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapped}))
    found = make(folder)
    assert all((found.module.state_dict()[key] == value).all() for key, value in before.items())
    (folder / "b.safetensors").unlink()
    refused(WeightsError, folder, "lacks b.safetensors", "whole snapshot")


def test_other_weights_fit_as_those_of_any_network(kept: Path, tmp_path: Path) -> None:
    import torch

    state = {f"module.{key}": value for key, value in states(kept / "vit").items()}
    torch.save({"state_dict": state}, tmp_path / "mine.pt")
    one, other = make(kept / "vit", tmp_path / "mine.pt"), make(kept / "vit")
    assert all((one.module.state_dict()[key] == value).all() for key, value in other.module.state_dict().items())
    assert not make(kept / "vit", "random").trained


def test_an_encoder_leaves_the_head_away_and_says_so(tmp_path: Path) -> None:
    found = make(text_snapshot(tmp_path / "bert", "Bert", "ForMaskedLM"))
    assert "cls.predictions" in found.provenance["weights_read"]
    assert not any("pooler" in key for key in found.module.state_dict())


def without(folder: Path, part: str) -> None:
    save(folder, {key: value for key, value in states(folder).items() if part not in key})


def test_a_head_that_is_not_there_is_refused(copied: Any) -> None:
    folder = copied("stars")
    without(folder, "classifier")
    refused(WeightsError, folder, "missing classifier.bias, classifier.weight", "untrained", "fine-tuned")


def test_other_sizes_are_refused(copied: Any) -> None:
    folder = copied("vit", intermediate_size=64)
    refused(WeightsError, folder, "[48, 32] in the snapshot and [64, 32] in the network")


def test_layers_that_the_network_lacks_are_refused(copied: Any) -> None:
    refused(WeightsError, copied("bert", num_hidden_layers=1), "unknown", "encoder.layer.1.")


def test_weights_that_are_no_numbers_are_refused(copied: Any) -> None:
    folder = copied("vit")
    state = states(folder)
    state["classifier.bias"][0] = float("nan")
    save(folder, state)
    refused(WeightsError, folder, "NaN in", "classifier.bias")


def test_a_file_that_was_cut_off_is_refused(copied: Any) -> None:
    folder = copied("vit")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    refused(WeightsError, folder, "cannot be read as a safetensors file", "once more")


def test_pickles_are_refused_and_read_where_they_are_named(copied: Any) -> None:
    import torch

    folder = copied("vit")
    torch.save(states(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(WeightsError, folder, "pytorch_model.bin", "may run code", "save_pretrained(NEW)", "weights: ")
    assert make(folder, folder / "pytorch_model.bin").trained


def test_a_snapshot_without_weights_says_the_ways_out(copied: Any) -> None:
    folder = copied("vit")
    (folder / "model.safetensors").unlink()
    (folder / "tf_model.h5").touch()
    refused(WeightsError, folder, "tf_model.h5 is another framework's", "--weights random")


def test_code_of_a_snapshots_own_is_refused_unless_it_is_trusted(copied: Any) -> None:
    folder = copied("bert", auto_map={"AutoModel": "modeling_mine.Mine"})
    refused(NetworkError, folder, "modeling_mine.Mine", "trust_remote_code: true")
    refused(NetworkError, folder, "true or false", trust_remote_code="yes")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": None}, ("architectures", "save_pretrained")),
        (
            {"architectures": ["T5ForConditionalGeneration"]},
            ("T5ForConditionalGeneration", "which no task is there for"),
        ),
        ({"model_type": "nobody_made_this"}, ("nobody_made_this",)),
    ],
)
def test_what_no_task_is_there_for_is_refused(copied: Any, config: Any, said: tuple[str, ...]) -> None:
    refused(NetworkError, copied("bert", **config), *said)


@pytest.mark.parametrize(
    "named",
    [
        {"0": "a", "1": "b", "2": "c", "3": "d", "9": "e"},
        {"0": None, "1": "b", "2": "c", "3": "d", "4": "e"},
        {"a": "b"},
        ["a", "b", "c", "d", "e"],
    ],
)
def test_names_that_are_not_those_of_all_classes_are_refused(copied: Any, named: Any) -> None:
    refused(NetworkError, copied("vit", id2label=named), "config.json: `id2label`", "without gaps")


def test_names_of_fewer_classes_are_refused(copied: Any) -> None:
    refused(WeightsError, copied("vit", id2label={"0": "a"}), "[5] in the snapshot and [1] in the network", "id2label")


def test_a_processor_that_is_code_is_not_run(copied: Any, tmp_path: Path) -> None:
    folder = copied("vit")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    own = {"auto_map": {"AutoImageProcessor": "mine.Mine"}, "image_processor_type": "Mine"}
    change(folder / "preprocessor_config.json", **own)
    for arguments in ({}, {"trust_remote_code": True}):
        assert "code of its own (mine.Mine), which is not run" in make(folder, **arguments).recipe_missing
    assert not (tmp_path / "ran").exists()


def test_mistakes_are_told_with_the_line_of_the_entry(copied: Any, tmp_path: Path) -> None:
    with pytest.raises(
        NetworkError, match=r"models\.yaml:2: models\.m\.network: hf:nothing: the folder .* does not exist"
    ):
        build(tmp_path, "models:\n  m: {network: 'hf:nothing'}\n")
    (copied("vit") / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"models\.yaml:2: models\.m\.network: .*no model\.safetensors"):
        build(tmp_path, "models:\n  m: {network: 'hf:vit'}\n")


def test_folders_that_hold_no_snapshot(tmp_path: Path) -> None:
    refused(NetworkError, tmp_path / "nothing", "does not exist", "relative to the manifest")
    (tmp_path / "file").touch()
    refused(NetworkError, tmp_path / "file", "is a file")
    (tmp_path / "empty").mkdir()
    refused(NetworkError, tmp_path / "empty", "no config.json")
    (tmp_path / "empty" / "config.json").write_text("{")
    refused(NetworkError, tmp_path / "empty", "config.json cannot be read")


def test_texts_without_a_tokenizer(copied: Any) -> None:
    folder = copied("bert")
    (folder / "tokenizer.json").unlink()
    refused(NetworkError, folder, "no tokenizer.json", "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")


@pytest.mark.parametrize(
    ("pooling", "said"),
    [
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean and cls"),
    ],
)
def test_other_poolings_are_refused(copied: Any, pooling: dict[str, Any], said: str) -> None:
    folder = copied("bert")
    pooled(folder, pooling)
    refused(NetworkError, folder, said, "known are mean, cls")


def pooled(folder: Path, pooling: dict[str, Any], *more: str) -> None:
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *((kind, f"2_{kind}") for kind in more)]
    listed = [
        {"idx": n, "path": path, "type": f"sentence_transformers.models.{kind}"} for n, (kind, path) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def test_modules_behind_the_pooling(copied: Any) -> None:
    folder = copied("bert")
    pooled(folder, {"pooling_mode_cls_token": True}, "Dense")
    refused(NetworkError, folder, "a Dense", "callable of your own")
    shutil.rmtree(folder / "1_Pooling")
    pooled(folder, {"pooling_mode": "cls"}, "Normalize")
    told = make(folder).texts
    assert told
    assert (told.pool, told.normalize) == ("cls", True)


def test_prompts_before_every_text_are_refused(copied: Any) -> None:
    folder = copied("bert")
    prompts = {"default_prompt_name": "query", "prompts": {"query": "query: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    refused(NetworkError, folder, "'query' before every text")


def test_lower_case_that_the_tokenizer_does_not_make_is_refused(copied: Any) -> None:
    folder = copied("bert")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": True}))
    refused(NetworkError, folder, "do_lower_case")


def entry(folder: Path, text: str) -> Any:
    (found,) = resolve(load_manifest(write_manifest(folder, f"models:\n  m: {{{text}}}\n")))
    return found


def test_another_task_is_named(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "vit", tmp_path / "vit")
    shutil.copytree(kept / "bert", tmp_path / "bert")
    with pytest.raises(ManifestError, match=r"m.*hf:vit is a network for classification; write `task: classification`"):
        build(tmp_path, "models:\n  m: {task: detection, network: 'hf:vit'}\n")
    with pytest.raises(ManifestError, match="write `task: text`"):
        build(tmp_path, "models:\n  m: {network: 'hf:bert'}\n")


def test_without_a_processor_the_entry_says_all(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "vit", tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(ManifestError, match=r"preprocess: is needed in full, since of hf:vit, it has no preproc"):
        build(tmp_path, "models:\n  m: {network: 'hf:vit'}\n")
    whole = "{channels: 3, resize: [64, 64], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    (built,) = build(tmp_path, f"models:\n  m: {{network: 'hf:vit', preprocess: {whole}, max_batch_size: 2}}\n")
    assert built.classes == 5


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"image_processor_type": "VivitImageProcessor"}, "VivitImageProcessor"),
        ({"size": {"shortest_edge": 64}}, "a size of its own"),
        ({"do_pad": True}, "`do_pad`"),
        ({"do_center_crop": True, "crop_size": {"height": 99, "width": 99}}, "`crop_size` [99, 99] is larger"),
        ({"image_mean": [0.5]}, "`image_mean` has 1 numbers"),
    ],
)
def test_keys_of_processors_that_no_recipe_says_are_named(copied: Any, told: Any, said: str) -> None:
    folder = copied("vit")
    change(folder / "preprocessor_config.json", **told)
    found = make(folder)
    assert found.recipe is None
    assert said in found.recipe_missing


def test_a_build_knows_when_the_snapshot_changed(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "vit", tmp_path / "vit")
    (tmp_path / "vit" / "flax_model.msgpack").touch()  # no build reads it
    digests = Digests(tmp_path / "digests")
    item = entry(tmp_path, "network: 'hf:vit'")
    before = Reading(digests).of(item)
    assert {"vit/config.json", "vit/model.safetensors", "vit/preprocessor_config.json"} < set(before["network"])
    assert "vit/flax_model.msgpack" not in before["network"]
    assert before["tools"]["transformers"]
    change(tmp_path / "vit" / "config.json", id2label={str(n): f"new {n}" for n in range(5)})
    after = Reading(Digests(tmp_path / "others")).of(item)
    assert [name for name in after["network"] if after["network"][name] != before["network"][name]] == [
        "vit/config.json"
    ]


def test_names_of_folders_and_of_the_hub_are_told_apart(tmp_path: Path) -> None:
    assert names_file("hf:some/folder")
    assert names_file("path/file.py:make")
    assert names_file("hf/model.onnx")
    assert not names_file("hf/ORG/name@v1.0")
    item = entry(tmp_path, "network: 'hf:some/../folder', weights: random")
    assert item.spec.files() == {("network",): "some/../folder"}
    from builder.build.portable import portable

    assert portable(item).network == "hf:folder"


COMMITS = "0" * 39


@pytest.fixture
def cache(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache as its client has it: two commits, of which main is the first; and no network."""
    from huggingface_hub import constants

    repository = tmp_path / "cache" / "models--ORG--vit"
    for number in (1, 2):
        shutil.copytree(kept / "vit", repository / "snapshots" / f"{COMMITS}{number}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(f"{COMMITS}1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository


@pytest.mark.usefixtures("cache")
def test_the_hub_is_read_from_its_cache_and_the_commit_recorded(tmp_path: Path) -> None:
    assert make("hf/ORG/vit").provenance["snapshot_commit"] == f"{COMMITS}1"
    assert make(f"hf/ORG/vit@{COMMITS}2").provenance["snapshot_commit"] == f"{COMMITS}2"
    inputs = Reading(Digests(tmp_path / "digests")).of(entry(tmp_path, "network: hf/ORG/vit"))
    assert inputs["network"] == {"says": "hf/ORG/vit", "commit": f"{COMMITS}1"}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf/ORG/other", ("not in the hub's cache", "hf:DIR")),
        ("hf/ORG/vit@v9", ("hf/ORG/vit@v9 is not in the hub's cache", "HF_HOME")),
        ("hf/vit", ("ORG/NAME",)),
        ("hf/ORG/vit@", ("ORG/NAME",)),
        ("hf:", ("names no folder",)),
    ],
)
def test_what_the_cache_has_not_is_told_with_the_ways_out(name: str, said: tuple[str, ...]) -> None:
    with pytest.raises(NetworkError) as caught:
        make(name)
    for words in said:
        assert words in str(caught.value)


def test_a_commit_that_the_cache_has_in_part_is_asked_for(
    cache: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = f"{COMMITS}2"
    (cache / "snapshots" / commit / "model.safetensors").unlink()
    asked: list[Any] = []

    def download(**wanted: Any) -> str:
        asked.append(wanted["revision"])
        return str(kept / "vit")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert make(f"hf/ORG/vit@{commit}").trained
    assert asked == [commit]
    make(f"hf/ORG/vit@{COMMITS}1")
    assert asked == [commit]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GatedRepoError", ("is gated", "hf auth login")),
        ("RevisionNotFoundError", ("no revision 'v9'", "a branch, a tag or a whole commit")),
        ("RepositoryNotFoundError", ("has no ORG/vit", "private")),
        ("HfHubHTTPError", ("cannot be downloaded", "try again")),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, kind: str, said: tuple[str, ...]) -> None:
    import httpx
    import huggingface_hub

    def refuse(**_: Any) -> str:
        response = httpx.Response(403, request=httpx.Request("GET", "https://hub.invalid"))
        raise getattr(huggingface_hub.errors, kind)("no", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(NetworkError) as caught:
        make("hf/ORG/vit@v9")
    for words in said:
        assert words in str(caught.value)


def test_packages_that_are_missing_are_named(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(NetworkError, kept / "vit", "transformers is missing", hub.INSTALL)
    with pytest.raises(NetworkError, match="huggingface_hub is missing"):
        make("hf/ORG/vit")


def test_training_is_left_to_transformers(kept: Path) -> None:
    from builder.training import trainable
    from builder.training.spec import load_run

    with pytest.raises(ManifestError, match="snapshots are trained by transformers"):
        trainable.make(load_run(None, {"network": f"hf:{kept / 'vit'}"}), 5)

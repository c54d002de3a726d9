"""Networks that read texts, out of snapshots: vectors and scores are transformers' own, in every format and size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import networks
from builder.exporters import EXPORTERS
from builder.networks.heads import one_tensor, with_head
from builder.triton.signature import Signature, TensorSpec
from builder.types import ExportRequest, Network, NetworkRequest, Target, WeightsSource
from tests.snapshots import ENCODERS, minilm, text_snapshot

if TYPE_CHECKING:
    import torch

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
SIZES = ((1, 3), (3, 30), (8, 64))
"""Others than the (2, 12) that are exported with."""
FAST = [("Bert", "torchscript"), ("Bert", "onnx"), ("Bert", "openvino")]
ALL = [(name, form) for name in ENCODERS for form in ("torchscript", "onnx", "openvino") if (name, form) not in FAST]


def make(folder: Path, weights: str = "snapshot", path: Path | None = None, **arguments: Any) -> Network:
    name = f"hf:{folder}"
    kind = "file" if path else "random" if weights == "random" else "named"
    request = NetworkRequest(name, WeightsSource(kind, weights, path), arguments, Path())
    return networks.find(name).make(request)


def tokens(rows: int, length: int, seed: int = 0, highest: int = 100) -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded to one."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, highest, (rows, length), generator=generator)
    lengths = [max(1, length - 5 * row) for row in range(rows)]
    mask = torch.stack([(torch.arange(length) < count).long() for count in lengths])
    return {IDS: ids * mask, MASK: mask, TYPES: torch.zeros_like(ids)}


def exported(network: Network, form: str, folder: Path, rank: int, precision: str = "fp32") -> Any:
    """The network's module as its artifact, read back; with two texts of twelve tokens."""
    names = (IDS, MASK, TYPES) if hasattr(network.module, "network") and takes_types(network) else (IDS, MASK)
    width = network.module(*(tokens(1, 4)[name] for name in names)).shape[-1]
    shape = (-1, width) if rank == 3 else (width,)
    named = Signature(tuple(TensorSpec(name, "INT64", (-1,)) for name in names), (TensorSpec("out", "FP32", shape),))
    exporter = EXPORTERS[form]
    signature = named if exporter.NAMES_TENSORS else named.by_position()
    examples = dict(zip((tensor.name for tensor in signature.inputs), (tokens(2, 12)[n] for n in names), strict=True))
    head = with_head(network.module, names, one_tensor)
    path = folder / exporter.FILENAME
    exporter.export(ExportRequest(head, signature, examples, path, Target(precision)))
    predict = exporter.load(path, Target(precision), signature)

    def run(given: dict[str, Any]) -> torch.Tensor:
        by_name = {tensor.name: given[name] for tensor, name in zip(signature.inputs, names, strict=True)}
        return next(iter(predict(by_name).values()))

    return run


def takes_types(network: Network) -> bool:
    import inspect

    return TYPES in inspect.signature(network.module.forward).parameters


def difference(one: torch.Tensor, other: torch.Tensor, mask: torch.Tensor) -> float:
    """The largest, over the tokens that are no padding."""
    kept = mask.bool()
    assert one.shape == other.shape
    return float((one - other)[kept].abs().max())


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of snapshots, each written once."""
    root = tmp_path_factory.mktemp("snapshots")

    def of(name: str, end: str = "Model", **config: Any) -> Path:
        folder: Path = root / "-".join([name, end, *map(str, config.values())])
        return folder if folder.is_dir() else text_snapshot(folder, name, end, **config)

    return of


def hold_encoder(folder: Path, name: str, form: str, where: Path) -> None:
    import torch
    import transformers

    own = getattr(transformers, f"{name}Model").from_pretrained(folder).eval()
    run = exported(make(folder), form, where, rank=3)
    for rows, length in SIZES:
        given = tokens(rows, length)
        with torch.no_grad():
            wanted = own(input_ids=given[IDS], attention_mask=given[MASK]).last_hidden_state
        assert difference(run(given), wanted, given[MASK]) < 2e-5


@pytest.mark.parametrize(("name", "form"), FAST)
def test_tokens_have_the_vectors_that_transformers_gives_them(
    snapshots: Any, tmp_path: Path, name: str, form: str
) -> None:
    hold_encoder(snapshots(name), name, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), ALL)
def test_encoders_of_all_kinds_export_for_every_size(snapshots: Any, tmp_path: Path, name: str, form: str) -> None:
    hold_encoder(snapshots(name), name, form, tmp_path)


@pytest.mark.parametrize("form", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_classifiers_give_transformers_logits(snapshots: Any, tmp_path: Path, form: str) -> None:
    import torch
    import transformers

    folder = snapshots("Bert", "ForSequenceClassification", num_labels=3)
    own = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    run = exported(make(folder), form, tmp_path, rank=2)
    for rows, length in SIZES:
        given = tokens(rows, length)
        with torch.no_grad():
            wanted = own(input_ids=given[IDS], attention_mask=given[MASK], token_type_ids=given[TYPES]).logits
        assert (run(given) - wanted).abs().max() < 1e-5


def test_types_are_asked_of_networks_that_have_several(snapshots: Any) -> None:
    assert takes_types(make(snapshots("Bert")))
    assert not takes_types(make(snapshots("Roberta", type_vocab_size=1)))
    assert not takes_types(make(snapshots("ModernBert")))


@pytest.mark.slow
def test_trained_vectors_are_those_of_transformers(tmp_path: Path) -> None:
    hold_encoder(minilm(), "Bert", "onnx", tmp_path)

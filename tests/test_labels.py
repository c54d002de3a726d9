"""`labels:` of a manifest: a named set, a file, or a list."""

from pathlib import Path

import pytest
from torch import nn

from builder.build.entry import Entry, resolve
from builder.build.portable import portable
from builder.build.provenance import built_from
from builder.data.labels import SETS
from builder.data.recipe import PreprocessRecipe
from builder.errors import ManifestError
from builder.manifest.models import load_manifest
from builder.tasks.images.labels import resolve_labels
from builder.types import Network

RECIPE = PreprocessRecipe(channels=1, resize=(28, 28))
UNLABELLED = Network(nn.Identity(), RECIPE, None, False, {})
SOME = {
    "imagenet": (1000, {0: "tench", 285: "Egyptian cat", 967: "espresso"}),
    "coco": (91, {0: "__background__", 12: "N/A", 17: "cat"}),
    "fashion_mnist": (10, {0: "T-shirt/top", 9: "Ankle boot"}),
    "digits": (10, {0: "zero", 9: "nine"}),
}


def planned(folder: Path, labels: str) -> Entry:
    path = folder / "models.yaml"
    path.write_text(f"models:\n  m:\n    network: lenet\n    weights: random\n    labels: {labels}\n", encoding="utf-8")
    return resolve(load_manifest(path))[0]


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_named(name: str, tmp_path: Path) -> None:
    count, some = SOME[name]
    labels = resolve_labels(planned(tmp_path, name), UNLABELLED, count)
    assert labels is not None
    assert len(labels) == count
    assert {number: labels[number] for number in some} == some


def test_a_set_of_other_classes_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r":5: models.m.labels: there are 1000 labels for 10 classes.*imagenet is"):
        resolve_labels(planned(tmp_path, "imagenet"), UNLABELLED, 10)


def test_a_set_goes_before_a_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("a\nb\n")
    assert resolve_labels(planned(tmp_path, "digits"), UNLABELLED, 10) == SETS["digits"]()
    assert resolve_labels(planned(tmp_path, "./digits"), UNLABELLED, 2) == ("a", "b")


def test_a_file_is_looked_for_where_no_set_has_the_name(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a\nb\n")
    assert resolve_labels(planned(tmp_path, "names"), UNLABELLED, 2) == ("a", "b")


@pytest.mark.parametrize("labels", ["./digits", "digits", "names.txt", "../names"])
def test_an_entry_means_the_same_elsewhere(labels: str, tmp_path: Path) -> None:
    moved = planned(tmp_path, labels)
    assert portable(moved).labels == labels
    assert built_from(moved, {}, {}, {})["entry"]["labels"] == labels


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_a_label(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\r\nabeille à miel\r\n", encoding=encoding)
    assert resolve_labels(planned(tmp_path, "names.txt"), UNLABELLED, 2) == ("ant", "abeille à miel")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", r"names.txt is UTF-16; save it as UTF-8$"),
        ("utf-32", "is UTF-32; save it as UTF-8$"),
        ("latin-1", r"names.txt:2: the byte 0xe0 is not UTF-8, but perhaps Latin-1"),
        ("utf-16-le", "0xe0 is not UTF-8, but perhaps UTF-16"),
    ],
)
def test_other_encodings_are_told(encoding: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\nabeille à miel\n", encoding=encoding)
    with pytest.raises(ManifestError, match=message):
        resolve_labels(planned(tmp_path, "names.txt"), UNLABELLED, 2)


def test_utf_16_without_a_mark_is_not_taken_for_labels(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\nbee\n", encoding="utf-16-le")
    with pytest.raises(ManifestError, match="as UTF-16 has; save it as UTF-8"):
        resolve_labels(planned(tmp_path, "names.txt"), UNLABELLED, 2)


def test_manifests_may_begin_with_a_mark(tmp_path: Path) -> None:
    path, text = tmp_path / "models.yaml", "models:\n  m: {network: lenet, weights: random}\n"
    path.write_text(text, encoding="utf-8-sig")
    assert list(load_manifest(path).models) == ["m"]
    path.write_text(text, encoding="utf-16")
    with pytest.raises(ManifestError, match="is UTF-16; save it as UTF-8"):
        load_manifest(path)

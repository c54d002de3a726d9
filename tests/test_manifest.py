from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.build.entry import resolve
from builder.errors import ManifestError, WeightsError
from builder.manifest.models import load_manifest, spec_of

BAD = Path(__file__).parent / "manifests"
ROOT = Path(__file__).parent.parent


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(BAD.rglob("*.yaml")), ids=lambda path: path.stem)
def test_bad_manifest_is_refused_with_file_line_and_key(path: Path) -> None:
    """The first line of each file says what the message must hold, in parts."""
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(" | ")
    with pytest.raises(ManifestError) as caught:
        resolve(load_manifest(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    for part in expected:
        assert part in message


def test_two_lines_are_an_entry(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, "models:\n  alexnet:\n    network: alexnet\n"))
    assert manifest.models["alexnet"] == spec_of("classification")(network="alexnet")
    (only,) = resolve(manifest)
    assert (only.weights.kind, only.weights.name) == ("named", "DEFAULT")


def test_a_name_alone_is_an_entry(tmp_path: Path) -> None:
    assert load_manifest(written(tmp_path, "models:\n  vgg16:\n")).models["vgg16"].network == "vgg16"


def test_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, "models:\n  lenet: {weights: runs/best.pth}\n"))
    (only,) = resolve(manifest)
    assert only.weights.path == tmp_path / "runs/best.pth"


def test_weights_option_overrides_every_entry(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, "models:\n  alexnet:\n  lenet: {weights: a.pth, seed: 7}\n"))
    assert [(p.weights.kind, p.weights.seed) for p in resolve(manifest, weights="random")] == [
        ("random", 0),
        ("random", 7),
    ]


def test_unknown_selection_names_what_there_is(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, "models:\n  alexnet:\n"))
    with pytest.raises(ManifestError, match="no model 'vgg16'; it has alexnet"):
        resolve(manifest, ["vgg16"])


def test_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist; name a manifest with -m FILE"):
        load_manifest(tmp_path / "none.yaml")


def test_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(b"models:\n  lenet: {weights: caf\xe9.pt}\n")
    with pytest.raises(ManifestError, match=r"models.yaml:2: the byte 0xe9 is not UTF-8, .*; save"):
        load_manifest(path)


def test_a_mark_of_utf_8_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodels:\r\n  alexnet:\r\n")
    assert list(load_manifest(path).models) == ["alexnet"]


@pytest.mark.parametrize(
    ("entry", "length"), [("", 9 + 12), ("format: onnx, precision: fp16, ", 9 + 10), ("precision: int8, ", 9 + 17)]
)
def test_names_are_as_long_as_folders_may_be(entry: str, length: int, tmp_path: Path) -> None:
    """Of the network, whose name is the longest of the three, with a version that it may get one day."""
    longest = "n" * (255 - length)
    entry += "network: lenet, weights: random, calibration: images"
    assert resolve(load_manifest(written(tmp_path, f"models: {{{longest}: {{{entry}}}}}")))
    with pytest.raises(ManifestError, match=r"models.nnn.* too long by 1:"):
        resolve(load_manifest(written(tmp_path, f"models: {{{longest}n: {{{entry}}}}}")))


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_a_manifest_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "models.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with suppress(ManifestError):
        load_manifest(path)


def test_shipped_manifest_can_be_planned() -> None:
    assert resolve(load_manifest(ROOT / "models.yaml"))


def test_weights_that_are_still_to_be_trained_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "models:\n  mine: {weights: runs/mine/best.safetensors}\n")
    with pytest.raises(
        WeightsError, match=r"models.yaml:2: models.mine.weights: .*best.safetensors does not exist; train"
    ):
        resolve(load_manifest(path))
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/best.safetensors").touch()
    with pytest.raises(WeightsError, match=r"best.card.json is not beside it.*give network:"):
        resolve(load_manifest(path))

"""Sets of images."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from builder.data.images import SAMPLES, ImageFile, Tensors, evaluation, find, images_below, spread, true_classes
from builder.data.recipe import PreprocessRecipe
from builder.data.sets import ImageSet
from builder.errors import ManifestError

RECIPE = PreprocessRecipe(channels=3, resize=(20,), crop=(16, 16))
PHOTOS = sorted(SAMPLES.glob("*.jpg"))


def images(folder: Path | str, samples: int = 256) -> ImageSet:
    return ImageSet(data=str(folder), samples=samples)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_samples_are_spread_evenly(total: int, wanted: int) -> None:
    chosen = spread(total, wanted)
    assert len(chosen) == min(total, wanted)
    assert chosen == sorted(set(chosen))
    assert 0 <= chosen[0] <= chosen[-1] < total
    gaps = {b - a for a, b in zip(chosen, [*chosen[1:], total], strict=True)}
    assert max(gaps) - min(gaps) <= 1


def test_default_is_the_packages_photos(tmp_path: Path) -> None:
    assert [picture.name for picture in find(None, tmp_path)] == [str(photo) for photo in PHOTOS]


def test_folders_are_searched_through_and_name_classes(tmp_path: Path) -> None:
    for place in ("b/x.jpg", "a/deep/y.JPG", "z.jpg"):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PHOTOS[0], tmp_path / "set" / place)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    found = find(images("set"), tmp_path)
    assert [(Path(p.name).name, p.truth) for p in found] == [("y.JPG", "a"), ("x.jpg", "b"), ("z.jpg", None)]
    assert len(find(images("set", samples=2), tmp_path)) == 2


def dataset(folder: Path, body: str) -> ImageSet:
    (folder / "sets.py").write_text(f"import itertools\nfrom PIL import Image\n\n\ndef make():\n    {body}\n")
    return images("sets.py:make", samples=3)


def test_links_to_folders_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    """That is how subsets are made of others' images."""
    for name in ("cat", "dog"):
        (tmp_path / "all" / name).mkdir(parents=True)
        shutil.copy(PHOTOS[0], tmp_path / "all" / name / "0.jpg")
    (tmp_path / "some" / "dog" / "more").mkdir(parents=True)
    (tmp_path / "some" / "cat").symlink_to(tmp_path / "all" / "cat")
    (tmp_path / "some" / "dog" / "more" / "dogs").symlink_to(tmp_path / "all" / "dog")
    for number, place in enumerate((tmp_path, tmp_path / "some", tmp_path / "some" / "dog", tmp_path / "nowhere")):
        (tmp_path / "some" / "dog" / f"circle{number}").symlink_to(place)
    found = find(images("some"), tmp_path)
    names = [Path(picture.name).relative_to(tmp_path / "some").as_posix() for picture in found]
    assert names == ["cat/0.jpg", "dog/more/dogs/0.jpg"]
    assert [picture.truth for picture in found] == ["cat", "dog"]


def test_datasets_are_spread_and_iterables_cut(tmp_path: Path) -> None:
    indexed = dataset(tmp_path, "return [(Image.new('RGB', (9, 9), (i, 0, 0)), i) for i in range(9)]")
    assert [p.truth for p in find(indexed, tmp_path)] == [0, 3, 6]
    endless = dataset(tmp_path, "return (Image.new('L', (9, 9)) for _ in itertools.count())")
    assert [p.truth for p in find(endless, tmp_path)] == [None] * 3
    files = dataset(tmp_path, f"return [({str(PHOTOS[0])!r}, 'coffee')]")
    (file,) = find(files, tmp_path)
    assert (file.read(), file.truth) == (PHOTOS[0].read_bytes(), "coffee")


def test_images_of_datasets_lose_nothing(tmp_path: Path) -> None:
    picture = find(dataset(tmp_path, f"return [Image.open({str(PHOTOS[0])!r})]"), tmp_path)[0]
    assert Image.open(io.BytesIO(picture.read())).tobytes() == Image.open(PHOTOS[0]).tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: images("nowhere"), "nowhere is not a folder"),
        (lambda folder: images(folder), "there are no images in"),
        (lambda folder: dataset(folder, "return []"), "gave no images"),
        (lambda folder: dataset(folder, "return [3]"), "[0] is a int; give files or Pillow images"),
        (lambda folder: dataset(folder, "raise OSError('disk on fire')"), "failed: OSError: disk"),
        (lambda folder: dataset(folder, "return None"), "failed: TypeError: "),
        (lambda folder: dataset(folder, "return [(Image.new('L', (9, 9)), [1, 2])]"), "failed: TypeError: "),
        (lambda folder: dataset(folder, "return (1 / 0 for _ in range(3))"), "failed: ZeroDivisionError: "),
        (lambda _: images("lost.py:make"), "lost.py does not exist"),
    ],
)
def test_bad_sets(make: Callable[[Path], ImageSet], message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        find(make(tmp_path), tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_kind_of_image_can_be_in_a_dataset(mode: str, tmp_path: Path) -> None:
    made = f"Image.open({str(PHOTOS[0])!r}).convert({mode!r})" if mode != "I;16" else "Image.new('I;16', (30, 20), 4)"
    (found,) = find(dataset(tmp_path, f"return [{made}]"), tmp_path)
    assert Image.open(io.BytesIO(found.read())).mode == mode
    assert found.decode(RECIPE).mode == "RGB"


def test_images_are_those_of_the_first_reading(tmp_path: Path) -> None:
    """A dataset that augments gives others each time, and network and artifact must see the same."""
    random = "Image.fromarray(__import__('numpy').random.randint(0, 255, (20, 20, 3), 'uint8'))"
    (found,) = find(dataset(tmp_path, f"return (({random}, 1) for _ in range(1))"), tmp_path)
    assert found.read() == found.read()


def test_files_of_a_dataset_are_relative_to_the_manifest(tmp_path: Path) -> None:
    shutil.copy(PHOTOS[0], tmp_path / "here.jpg")
    (found,) = find(dataset(tmp_path, "return ['here.jpg']"), tmp_path)
    assert found.read() == PHOTOS[0].read_bytes()


def test_a_file_that_a_dataset_names_and_that_is_not_there(tmp_path: Path) -> None:
    (found,) = find(dataset(tmp_path, "return [('none.png', 0)]"), tmp_path)
    with pytest.raises(ManifestError, match=r"none\.png cannot be decoded: .*No such file"):
        found.decode(RECIPE)


def picture(truth: int | str | None = None) -> ImageFile:
    return ImageFile("photo", PHOTOS[0].read_bytes, truth)


def test_few_pictures_come_again_turned() -> None:
    turned = evaluation([picture()], RECIPE, 5)
    assert [view.turn for view in turned.views] == ["", "mirrored", "upside down", "", "mirrored"]
    plain, mirrored, flipped = next(turned.batches(3))
    assert not torch.equal(plain, mirrored)
    assert not torch.equal(plain, flipped)
    assert len(evaluation([picture()] * 7, RECIPE, 5)) == 7


@given(st.integers(1, 9), st.integers(1, 9))
def test_batches_hold_all_images_in_order(size: int, count: int) -> None:
    def solid(value: int) -> ImageFile:
        buffer = io.BytesIO()
        Image.new("RGB", (20, 20), (value, value, value)).save(buffer, "PNG")
        return ImageFile(str(value), buffer.getvalue)

    batches = list(evaluation([solid(i) for i in range(9)], RECIPE, 1).batches(size, count))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.cat(batches)[:, 0, 0, 0].mul(255).round().tolist() == list(range(count))


def test_tensors_are_the_recipes() -> None:
    expected = RECIPE.reference_transform()(RECIPE.decode(PHOTOS[0]))
    images = Tensors([picture(), picture()], RECIPE)
    assert len(images) == 2
    for _ in range(2):
        assert all(torch.equal(tensor, expected.unsqueeze(0)) for tensor in images)


@pytest.mark.parametrize(
    ("truths", "expected"),
    [
        (["cat", "dog"], (0, 1)),
        (["1", "0"], (1, 0)),
        ([1, 0], (1, 0)),
        (["dog", None], (1, None)),
        ([None, None], ()),
        (["n01440764", "n01443537"], ()),  # folders that name something else
    ],
)
def test_true_classes(truths: list[int | str | None], expected: tuple[int | None, ...]) -> None:
    assert true_classes(evaluation([picture(t) for t in truths], RECIPE, 2), ("cat", "dog"), 2) == expected


def test_numbers_are_classes_whatever_the_labels_are() -> None:
    numbered = evaluation([picture(0), picture("0")], RECIPE, 2)
    assert true_classes(numbered, ("1", "0"), 2) == (0, 1)
    with pytest.raises(ManifestError, match="no classes: 2"):
        true_classes(evaluation([picture(0), picture(2)], RECIPE, 2), ("1", "0"), 2)


def test_turned_pictures_have_no_true_class() -> None:
    """A six that is upside down is a nine."""
    assert true_classes(evaluation([picture("cat")], RECIPE, 3), ("cat", "dog"), 2) == (0, None, None)


def test_a_misspelt_class_is_told() -> None:
    with pytest.raises(ManifestError, match="no classes: dgo"):
        true_classes(evaluation([picture("cat"), picture("dgo")], RECIPE, 2), ("cat", "dog"), 2)


def test_what_is_no_folder_of_images_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "lost+found").mkdir()
    shutil.copy(PHOTOS[0], tmp_path)
    assert images_below(tmp_path) == [tmp_path / PHOTOS[0].name]

"""Which serving image has what, and how it is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.triton import releases

NUMBERS = st.integers(0, 99)


@given(st.sampled_from(releases.RELEASES), st.text(".0123456789", max_size=4))
def test_an_image_is_found_by_its_own_tensorrt(image: releases.Release, build: str) -> None:
    found = releases.with_tensorrt(f"{image.tensorrt}.{build}")
    assert found is not None
    assert releases.same_tensorrt(found.tensorrt, image.tensorrt)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_no_image_is_of_another_minor_version(major: int, minor: int, patch: int) -> None:
    found = releases.with_tensorrt(f"{major}.{minor}.{patch}")
    known = {tuple(image.tensorrt.split(".")[:2]) for image in releases.RELEASES}
    wanted = (str(major), str(minor))
    assert (tuple(found.tensorrt.split(".")[:2]) if found else None) == (wanted if wanted in known else None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.16.1", "10.16.1.11", True),
        ("10.16", "10.16.1.11", True),
        ("10.16.1.11", "10.16.1.12", False),
        ("10.16.1", "10.1.61", False),
        ("11.1.0", "10.16.1", False),
        ("", "", True),
        ("", "10.16.1", False),
    ],
)
def test_same_tensorrt(one: str, other: str, same: bool) -> None:
    assert releases.same_tensorrt(one, other) is releases.same_tensorrt(other, one) is same


def test_newest_is_last_in_a_table_that_is_in_order() -> None:
    tags = [tuple(map(int, image.tag.split("."))) for image in releases.RELEASES]
    assert tags == sorted(set(tags))
    assert releases.newest().tag == releases.RELEASES[-1].tag


def test_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    image = releases.newest()
    monkeypatch.delenv(releases.REGISTRY_VARIABLE, raising=False)
    assert image.reference() == f"tritonserver:{image.tag}-py3"
    assert image.reference("registry:5000/nvidia/") == f"registry:5000/nvidia/tritonserver:{image.tag}-py3"
    monkeypatch.setenv(releases.REGISTRY_VARIABLE, "registry/nvidia")
    assert image.reference() == f"registry/nvidia/tritonserver:{image.tag}-py3"
    assert releases.of_reference(image.reference()) == image
    assert releases.of_reference("registry/tritonserver:1.0-py3") is None

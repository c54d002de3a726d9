"""What deploy's targets share: quoting that nothing breaks out of, and files written whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from builder.deploy import files, image
from builder.errors import DeployError

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def write(folder: Path, texts: dict[str, str], force: bool = False) -> files.Written:
    return files.write(texts, folder, force, target="test")


def held(folder: Path) -> dict[str, str]:
    """What a person sees in it."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".build-repo-"))
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def yaml_1_2(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(io.StringIO(text))


@settings(deadline=None)
@given(VALUES)
def test_a_quoted_value_is_the_same_in_json_and_yaml(value: Any) -> None:
    text = files.quoted(value)
    assert len(text.splitlines()) == 1
    assert json.loads(text) == value
    assert yaml.safe_load(text) == value
    assert yaml_1_2(text) == value


@settings(deadline=None)
@given(TEXT)
def test_nothing_breaks_out_of_a_document(name: str) -> None:
    document = f"before: 1\nname: {files.quoted(name)}\nlist:\n  - {files.quoted(name)}  # why\nafter: 2\n"
    assert yaml.safe_load(document) == {"before": 1, "name": name, "list": [name], "after": 2}


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(DeployError, match="not Unicode"):
        files.quoted(os.fsdecode(b"caf\xe9"))


def test_files_are_written_into_folders_of_their_own(tmp_path: Path) -> None:
    outcome = write(tmp_path / "new" / "folder", {"a.yaml": "a\n", "deep/er/run": "#!/bin/sh\n"})
    assert outcome.written == ("a.yaml", "deep/er/run")
    assert held(tmp_path / "new" / "folder") == {"a.yaml": "a\n", "deep/er/run": "#!/bin/sh\n"}
    assert os.access(tmp_path / "new/folder/deep/er/run", os.X_OK)
    assert not os.access(tmp_path / "new/folder/a.yaml", os.X_OK)


def test_what_is_no_longer_rendered_goes_and_the_rest_stays(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1", "old/b": "2", "c": "3"})
    (tmp_path / "theirs").write_text("mine")
    outcome = write(tmp_path, {"a": "1", "c": "4"})
    assert outcome == files.Written(written=("c",), unchanged=("a",), removed=("old/b",))
    assert held(tmp_path) == {"a": "1", "c": "4", "theirs": "mine"}
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize("texts", [{"a": "new", "b": "b"}, {"b": "b"}], ids=["still rendered", "no longer"])
def test_an_edited_file_is_refused(tmp_path: Path, texts: dict[str, str]) -> None:
    write(tmp_path, {"a": "1", "b": "2"})
    (tmp_path / "a").write_text("edited")
    with pytest.raises(DeployError, match=r"edited since: a; .*--force"):
        write(tmp_path, texts)
    assert held(tmp_path) == {"a": "edited", "b": "2"}
    write(tmp_path, texts, force=True)
    assert held(tmp_path) == texts


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("theirs")
    with pytest.raises(DeployError, match="did not write"):
        write(tmp_path, {"a": "ours", "b": "b"})
    assert held(tmp_path) == {"a": "theirs"}


def test_targets_leave_each_others_files_alone(tmp_path: Path) -> None:
    files.write({"a": "1"}, tmp_path, False, target="one")
    files.write({"b": "2"}, tmp_path, False, target="other")
    with pytest.raises(DeployError, match="did not write"):
        files.write({"a": "2"}, tmp_path, False, target="other")
    assert held(tmp_path) == {"a": "1", "b": "2"}


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1"})
    before = (tmp_path / "a").stat().st_ino
    assert write(tmp_path, {"a": "1"}).unchanged == ("a",)
    assert (tmp_path / "a").stat().st_ino == before


def test_a_record_that_was_lost_is_no_reason_to_refuse_what_is_the_same(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1"})
    (tmp_path / ".build-repo-test.json").write_text("{")
    assert write(tmp_path, {"a": "1"}).unchanged == ("a",)


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1", "b": "2", "stale": "3"})
    before = held(tmp_path) | {".build-repo-test.json": (tmp_path / ".build-repo-test.json").read_text()}
    (tmp_path / "c").write_text("a file where a folder is wanted")
    with pytest.raises(DeployError, match="holds what it held before"):
        write(tmp_path, {"a": "new", "b": "new", "c/d": "new", "e": "new"})
    (tmp_path / "c").unlink()
    assert held(tmp_path) | {".build-repo-test.json": (tmp_path / ".build-repo-test.json").read_text()} == before
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("name", ["../a", "/a", "b/../../a", ""])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeployError, match="outside"):
        write(tmp_path / "folder", {name: "x"})
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_only_when_forced_and_what_it_means_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").symlink_to(tmp_path / "theirs")
    with pytest.raises(DeployError, match="did not write"):
        write(folder, {"a": "precious"})
    write(folder, {"a": "ours"}, force=True)
    assert (tmp_path / "theirs").read_text() == "precious"
    assert (folder / "a").read_text() == "ours"


@pytest.mark.parametrize(
    "reference",
    ["triton:26.09-py3", "registry.example:5000/team/triton:1", f"host/triton@sha256:{'0' * 64}", "triton:v1.2_3-x"],
)
def test_a_pinned_image_is_taken(reference: str) -> None:
    assert image.pinned(reference) == reference


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("triton", "no tag"),
        ("registry.example:5000/triton", "no tag"),
        ("triton:latest", "pushed last"),
        ("triton:1\nprivileged: true", "not an image reference"),
        ("", "not an image reference"),
        ("triton:", "not an image reference"),
        ("triton@sha256:abc", "not an image reference"),
    ],
)
def test_any_other_image_is_refused(reference: str, reason: str) -> None:
    with pytest.raises(DeployError, match=reason):
        image.pinned(reference)

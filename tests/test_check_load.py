"""What a throwaway server says of models, and that nothing is left of it, whatever they do to it."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from waiting import until

from builder.check.load import judge, judged
from builder.launchers.runtime import adapted

TENSORS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
CODE = """
import json, os, time
class TritonPythonModel:
    def initialize(self, args):
        {body}
    def execute(self, requests):
        return []
"""
BODIES = {
    "good": "pass",
    "raises": "raise ValueError('no weights here')",
    "hangs": "time.sleep(1000)",
    "exits": "os._exit(3)",
    "loud": "[print('x' * 1000, flush=True) for _ in range(3000)]",
    "kills": "os.kill(os.getppid(), 9)",
}


def write(repository: Path, name: str, text: str, code: str = "") -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(text + TENSORS)
    if code:
        (repository / name / "1" / "model.py").write_text(code)
        (repository / name / "1" / "beside.py").write_text("here = True\n")


def python(repository: Path, *names: str) -> None:
    for name in names:
        write(repository, name, 'backend: "python"', "import beside\n" + CODE.replace("{body}", BODIES[name]))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a path with a space; whatever a test does with it, nothing of a server is left afterwards."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path / "the models"
    until(lambda: not list(temporary.iterdir()), told=lambda: list(temporary.iterdir()))
    tempfile.tempdir = None


def reasons(repository: Path, *names: str, seconds: float = 60) -> dict[str, str]:
    return {verdict.model: verdict.reason for verdict in judged(repository, names, seconds=seconds)}


def test_models_of_the_python_backend_are_tried(models: Path) -> None:
    """Six workers of Python, and two servers: it takes some seconds."""
    python(models, "good", "raises", "exits", "loud")
    write(models, "broken", 'backend: "python" no_field: 1')
    before = files(models)
    found = reasons(models, "good", "raises", "broken", "exits", "loud", "nowhere")
    assert found["good"] == found["loud"] == ""
    assert "ValueError: no weights here" in found["raises"]
    assert "At:" not in found["raises"]
    assert 'has no field named "no_field"' in found["broken"]
    assert found["exits"]
    assert "failed to poll" in found["nowhere"]
    assert files(models) == before, "looking changed something"


def test_a_model_that_hangs_or_kills_the_server_hides_no_other(models: Path) -> None:
    """It waits for three seconds, by which a load that hangs is known, and starts three servers."""
    python(models, "hangs", "kills", "good")
    verdicts = {each.model: each for each in judged(models, ["hangs", "kills", "good"], seconds=3)}
    assert "did not come back within 3 s" in verdicts["hangs"].reason
    assert verdicts["kills"].is_crash
    assert verdicts["good"].is_loaded


def test_a_backend_that_this_server_lacks_is_told_as_such(models: Path) -> None:
    write(models, "plan", 'backend: "tensorrt"')
    write(models, "own", 'backend: "of_a_user"')
    found = {each.model: each.lacks for each in judged(models, ["plan", "own"])}
    assert found == {"plan": "tensorrt", "own": "of_a_user"}


@pytest.mark.parametrize("name", ["a b", "ü", "p%20q", "q?x", "#", 'quote"', os.fsdecode(b"\xff"), "-x", "a:b", "a+b"])
def test_any_name_is_asked_for(name: str, models: Path) -> None:
    write(models, name, 'backend: "nothing"')
    [verdict] = judged(models, [name])
    assert verdict.lacks == "nothing"


def test_nobody_else_may_load_models_into_it(models: Path) -> None:
    write(models, "own", 'backend: "of_a_user"')
    with judge(models) as one:
        request = urllib.request.Request(f"{one.url}/repository/models/own/load", b"{}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()
        assert refused.value.code == 403
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes.descendants(os.getpid())]
    assert not any(re.search(rb"restricted-api=.*key=\S{20}", command) for command in commands)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_whoever_asks(number: int, models: Path) -> None:
    python(models, "hangs")
    code = "import sys; from pathlib import Path; from builder.check.load import judged; "
    code += "from builder.machine import signals; signals.listen(); list(judged(Path(sys.argv[1]), ['hangs']))"
    with processes.started([sys.executable, "-c", code, models]) as process:
        servers: set[int] = set()

        def begun() -> bool:
            servers.update(processes.descendants(process.pid))
            return any(
                b"stub" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in servers if processes.is_alive(pid)
            )

        until(begun, told=lambda: servers)
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) != 0
        until(lambda: not any(map(processes.is_alive, servers)), told=lambda: time.monotonic() - begin)


def test_what_is_built_loads(repository: Path) -> None:
    """One model of each format, with its steps; the shared repository's path has a space."""
    names = [name for name in ("onnx_model", "openvino_model", "torchscript_model") if (repository / name).is_dir()]
    assert names
    assert reasons(repository, *names, seconds=300) == dict.fromkeys(names, "")


@pytest.mark.slow
def test_all_that_is_built_loads(repository: Path) -> None:
    """Dozens of workers that import PyTorch, one after the other."""
    names = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    with adapted(repository) as models:
        assert reasons(models, *names, seconds=300) == dict.fromkeys(names, "")

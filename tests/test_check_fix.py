"""`check --fix`: what cannot be wrong, in files that are the user's own, each changed at once or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.check import fix
from builder.check.config import read
from builder.check.findings import Edit, Finding, Level, Rule
from builder.check.rules import reading

MARKED = '\ufeffbackend: "custom"\r\nparameters { key: "threads" value { string_value: 4 } } # größe\r\n'
MENDED = 'backend: "custom"\r\nparameters { key: "threads" value { string_value: "4" } } # größe\r\n'
RULE = Rule("TMR999", "of-tests", Level.WARNING, "", "", "")


class OfFolder:
    """As much of a Model as the family asks."""

    def __init__(self, folder: Path) -> None:
        self.name, self.config = folder.name, read(folder / "config.pbtxt")


def found(folder: Path) -> list[Finding]:
    model: Any = OfFolder(folder)
    return list(reading.check(model, None))  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_bytes(MARKED.encode())
    return folder


def config(folder: Path) -> str:
    return (folder / "config.pbtxt").read_bytes().decode()


def apply(findings: list[Finding]) -> str:
    return "\n".join(fix.apply(findings))


def test_what_cannot_be_wrong_is_mended_and_told(model: Path) -> None:
    findings = found(model)
    assert [finding.rule.code for finding in findings] == ["TMR011", "TMR017"]
    assert apply(findings) == f"{model / 'config.pbtxt'}: mended (TMR011, TMR017)"
    assert config(model) == MENDED
    assert [path.name for path in model.iterdir()] == ["config.pbtxt"]
    assert apply(found(model)) == ""


def test_what_could_be_wrong_is_left(model: Path) -> None:
    (model / "config.pbtxt").write_text("max_batchsize: 8\n")
    findings = found(model)
    assert findings[0].edits
    assert apply(findings) == ""
    assert config(model) == "max_batchsize: 8\n"
    assert fix.diff(config(model), findings[0].edits) == (
        "--- config.pbtxt\n+++ config.pbtxt\n@@ -1 +1 @@\n-max_batchsize: 8\n+max_batch_size: 8\n"
    )
    last = "\n\\ No newline at end of file\n"
    assert fix.diff("a: 1", [Edit(0, 1, "b")]).endswith(f"-a: 1{last}+b: 1{last}")


def test_rights_and_owner_stay_and_the_file_is_newer(model: Path) -> None:
    file = model / "config.pbtxt"
    file.chmod(0o640)
    later = time.time_ns() + 3600 * 10**9
    os.utime(file, ns=(later, later))
    if os.geteuid() == 0:
        os.chown(file, 12345, 23456)
    before = file.stat()
    apply(found(model))
    after = file.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_mtime_ns > later
    assert after.st_ino != before.st_ino


def a_link_outside(model: Path) -> None:
    (model / "config.pbtxt").rename(model.parent.parent / "elsewhere")
    (model / "config.pbtxt").symlink_to(model.parent.parent / "elsewhere")


def a_folder_outside(model: Path) -> None:
    outside = model.parent.parent / "elsewhere"
    outside.mkdir()
    (model / "config.pbtxt").rename(outside / "config.pbtxt")
    model.rmdir()
    model.symlink_to(outside)


def in_the_lock(model: Path) -> None:
    shutil.copy(Path(__file__).parent / "repositories/before/build-repo.lock.json", model.parent)
    model.rename(model.parent / "tiny")


def with_an_odd_lock(model: Path) -> None:
    (model.parent / "build-repo.lock.json").write_text("{")


def with_another_fault(model: Path) -> None:
    (model / "config.pbtxt").write_text(MARKED + "foo: 1", newline="")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (a_link_outside, "outside of the repository"),
        (a_folder_outside, "outside of the repository"),
        (in_the_lock, "build-repo wrote it"),
        (with_an_odd_lock, "cannot be read"),
        (with_another_fault, 'there is no field "foo"'),
    ],
)
def test_some_files_are_left_alone(make: Callable[[Path], None], why: str, model: Path) -> None:
    make(model)
    (folder,) = (path for path in model.parent.iterdir() if path.is_dir())
    before = config(folder)
    assert "left as it is: " in apply(found(folder))
    assert why in apply(found(folder))
    assert config(folder) == before
    assert not list(model.parent.parent.rglob(".*"))


@pytest.mark.parametrize(("role", "told"), [("model", "left as it is: build-repo wrote it"), ("captain", "mended")])
def test_what_build_repo_wrote_is_built_again(role: str, told: str, model: Path) -> None:
    file = model / "config.pbtxt"
    file.write_text(f'backend: "custom"\nparameters {{ key: "role" value {{ string_value: "{role}" }} }}\n')
    finding = Finding(RULE, "m", file, "", edits=(Edit(0, 0, "# x\n"),), is_safe=True)
    assert told in apply([finding])
    assert file.read_text().startswith("#") == (told == "mended")


def test_a_link_inside_stays_one(model: Path) -> None:
    (model / "config.pbtxt").rename(model.parent / "shared.pbtxt")
    (model / "config.pbtxt").symlink_to("../shared.pbtxt")
    apply(found(model))
    assert (model / "config.pbtxt").is_symlink()
    assert config(model) == MENDED


def test_of_edits_at_one_place_one_is_made(model: Path) -> None:
    file = model / "config.pbtxt"
    file.write_text("max_batch_size: 8\n")
    edits = [(Edit(16, 17, "4"),), (Edit(16, 17, "2"),), (Edit(16, 17, "4"),), (Edit(17, 17, "0"),), ()]
    findings = [Finding(RULE, "m", file, "", edits=each, is_safe=True) for each in edits]
    assert "mended (TMR999); 1 more" in apply(findings)
    assert file.read_text() == "max_batch_size: 40\n"


@pytest.mark.parametrize("text", ["max_batch_size: x\n", "max_batch_size: 8\n"])
def test_what_is_no_config_or_no_change_is_not_written(text: str, model: Path) -> None:
    file = model / "config.pbtxt"
    file.write_text("max_batch_size: 8\n")
    before = file.stat()
    finding = Finding(RULE, "m", file, "", edits=(Edit(0, 18, text),), is_safe=True)
    assert "left as it is" in apply([finding])
    assert file.stat().st_ino == before.st_ino


def test_one_that_changes_meanwhile_is_left(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings, real = found(model), os.fsync

    def late(descriptor: int) -> None:
        (model / "config.pbtxt").write_text("# mine\n")
        real(descriptor)

    monkeypatch.setattr(fix.os, "fsync", late)
    assert "it changed while it was looked at" in apply(findings)
    assert [path.name for path in model.iterdir()] == ["config.pbtxt"]
    assert config(model) == "# mine\n"


def test_one_that_is_gone_is_told(model: Path) -> None:
    findings = found(model)
    shutil.rmtree(model)
    assert "No such file" in apply(findings)


def is_killed(findings: list[Finding], folder: Path, fatal: int) -> bool:
    """By the call to the system that is the `fatal`-th on the folder's files, in a child."""
    child = os.fork()
    if child == 0:
        left = [fatal]

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event.startswith(("os.", "open", "tempfile.", "shutil.")) and str(folder) in str(arguments):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        apply(findings)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_a_kill_finds_the_old_file_or_the_new(model: Path) -> None:
    findings, seen = found(model), []
    for fatal in range(1, 60):
        (model / "config.pbtxt").write_bytes(MARKED.encode())
        was_killed = is_killed(findings, model, fatal)
        seen.append(config(model))
        if not was_killed:
            break
    assert set(seen) == {MARKED, MENDED}
    assert len(seen) > 5
    assert seen[-1] == MENDED
    assert not [path for path in model.iterdir() if path.is_dir()]

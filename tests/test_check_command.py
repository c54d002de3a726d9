"""`build-repo check` as a shell sees it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from check_trees import BROKEN, CODE, FINE, PLACE, model
from editors import ROOT
from test_cli import build_repo

from builder.check.rules import table

HOOK = ROOT / ".pre-commit-hooks.yaml"
OF_TYPER = {"typer", "click", "rich", "shellingham", "typing_extensions", "annotated_doc", "markdown_it", "mdurl"}
OF_TYPER |= {"pygments", "pydantic", "pydantic_core", "annotated_types", "typing_inspection"}
ALONE = """
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Only())
from builder.cli import main
main()
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    model(tmp_path / "models" / "fine", FINE)
    return tmp_path / "models"


def test_clean_is_silent(models: Path, tmp_path: Path) -> None:
    places = (models, models / "fine", models / "fine" / "config.pbtxt")
    for where in [*((place,) for place in places), ("-r", models)]:
        done = build_repo("check", *where)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert build_repo("check", cwd=tmp_path).returncode == 2
    assert build_repo("check", "-r", tmp_path / "none", models).returncode == 2
    models.rename(tmp_path / "model_repository")
    assert build_repo("check", cwd=tmp_path).returncode == 0


def test_on_a_terminal_clean_is_said_in_a_line(models: Path) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        try:
            command = [sys.executable, "-m", "builder", "check", str(models), "--target", "24.10"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=120, check=False)
        finally:
            os.close(theirs)
        assert (done.returncode, done.stdout) == (0, b"")
        assert terminal.readline().strip() == b"build-repo: nothing is wrong in 1 model, judged for Triton 24.10"


def test_what_is_wrong_is_told_with_its_place(models: Path, tmp_path: Path) -> None:
    model(models / "broken", BROKEN)
    done = build_repo("check", "models", "--target", "24.10", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    first, *_, last = done.stdout.splitlines()
    assert first.startswith(f"models/broken/config.pbtxt:{PLACE}")
    assert f": error {CODE}" in first
    assert last == "1 error in 1 of 2 models, judged for Triton 24.10"
    code = first.split()[2]

    told = json.loads(build_repo("check", "models", "--json", cwd=tmp_path).stdout)
    assert [each["code"] for each in told["findings"]] == [code]
    assert [each["name"] for each in told["models"] if each["refused"]] == ["broken"]

    assert build_repo("check", "models/fine", cwd=tmp_path).returncode == 0
    assert build_repo("check", "models", "--ignore", code, cwd=tmp_path).returncode == 0
    assert build_repo("check", "models", "--ignore", table()[code].name, cwd=tmp_path).returncode == 0


def test_sarif_goes_to_a_file_or_to_standard_output(models: Path, tmp_path: Path) -> None:
    model(models / "broken", BROKEN)
    done = build_repo("check", "models", "--sarif", "check.sarif", cwd=tmp_path)
    assert "models/broken/config.pbtxt" in done.stdout
    written = json.loads((tmp_path / "check.sarif").read_text())
    done = build_repo("check", "models", "--sarif", "-", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (1, written)
    done = build_repo("check", "models", "--sarif", "no/such/folder", cwd=tmp_path)
    assert done.returncode == 2
    assert "no/such/folder cannot be written: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonesuch"], "nonesuch"),
        ([".", "--target", "yesterday"], "yesterday"),
        ([".", "--ignore", "TMR000"], "there is no code 'TMR000'"),
        (["--explain", "tmr99"], "did you mean TMR99"),
        ([".", "--json", "--sarif", "-"], "both print to standard output"),
    ],
)
def test_what_is_unusable(arguments: list[str], words: str, models: Path) -> None:
    done = build_repo("check", *arguments, cwd=models)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_every_code_is_explained() -> None:
    lines = build_repo("check", "--explain", "all").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(table())
    told = build_repo("check", "--explain", "refused-by-the-server").stdout
    assert told.startswith("TMR990 refused-by-the-server (error)\n")
    assert all(part in told for part in ("Why: ", "Mend: "))


def test_what_is_mended_is_told_and_no_longer_counts(models: Path, tmp_path: Path) -> None:
    config = models / "fine" / "config.pbtxt"
    config.write_text("\ufeff" + FINE, encoding="utf-8")
    model(models / "broken", BROKEN)
    before = build_repo("check", "models", "--json", cwd=tmp_path)
    assert len(json.loads(before.stdout)["findings"]) == 2
    done = build_repo("check", "models", "--fix", "--json", cwd=tmp_path)
    assert done.stderr == "build-repo: models/fine/config.pbtxt: mended (TMR011)\n"
    assert config.read_text(encoding="utf-8") == FINE
    told = json.loads(done.stdout)
    assert [(each["model"], each["fixed"]) for each in told["findings"]] == [("fine", True), ("broken", False)]
    assert (told["summary"]["errors"], told["summary"]["fixed"], done.returncode) == (1, 1, 1)
    (models / "broken" / "config.pbtxt").write_text(FINE)
    config.write_text("\ufeff" + FINE, encoding="utf-8")
    done = build_repo("check", "models", "--fix", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("models/fine/config.pbtxt:1:1: mended TMR011 ")


def test_names_do_nothing_to_a_terminal(models: Path) -> None:
    model(models / os.fsdecode(b"evil\x1b[31m\xff"), BROKEN)
    done = build_repo("check", models)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "evil\\x1b[31m\\xff/config.pbtxt" in done.stdout


def test_the_hook_brings_all_that_a_check_needs(models: Path) -> None:
    """Of what builds need, it installs two packages beside the program's own."""
    (hook,) = yaml.safe_load(HOOK.read_text(encoding="utf-8"))
    assert hook["entry"] == "build-repo check"
    assert hook["additional_dependencies"] == ["tritonclient>=2.51", "protobuf>=5"]
    script = ALONE.replace("ALLOWED", repr({"builder", "numpy", "google", "tritonclient"} | OF_TYPER))
    command = [sys.executable, "-c", script, "check", str(models), "--sarif", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")

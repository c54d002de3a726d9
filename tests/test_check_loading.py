"""`build-repo check --load`: the real server's word, beside what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from check_trees import FINE, model
from test_cli import build_repo

CODE = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
MAPS = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'


def python(folder: Path, code: str) -> None:
    model(folder, FINE.replace("identity", "python"))
    (folder / "1" / "model").rename(folder / "1" / "model.py")
    (folder / "1" / "model.py").write_text(code)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model that loads, one whose code fails, an ensemble of that, and one of a backend that is not there."""
    folder = tmp_path / "models"
    python(folder / "fine", CODE)
    python(folder / "failing", "import no_such_package\n" + CODE)
    tensors = FINE.partition("\n")[2]
    step = f'step {{ model_name: "failing" model_version: -1 {MAPS} }}'
    model(folder / "around", f'platform: "ensemble"\n{tensors}ensemble_scheduling {{ {step} }}\n')
    model(folder / "foreign", FINE)
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_server_is_asked_of_each_model(models: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    done = build_repo("check", models, "--target", "24.10", "--load", "--errors-only", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    loaded = {each["name"]: each["loaded"] for each in told["models"]}
    assert loaded == {"fine": True, "failing": False, "around": False, "foreign": None}
    assert [(each["code"], each["model"]) for each in told["findings"]] == [("TMR990", "failing")]
    (found,) = told["findings"]
    assert found["path"] == "models/failing"
    assert "No module named 'no_such_package'" in found["server"]
    assert found["loaded"] is False
    assert files(tmp_path) == before

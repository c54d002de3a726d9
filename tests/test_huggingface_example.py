"""The example of snapshots: a ViT that is trained, saved by transformers, and built, from nothing."""

import runpy
import shutil
from pathlib import Path

import pytest
from conftest import build

EXAMPLE = Path(__file__).parent.parent / "examples" / "huggingface"


@pytest.mark.slow
def test_the_example_reads_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("digits.py", "models.yaml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    runpy.run_path(str(tmp_path / "digits.py"), run_name="__main__")
    share = float(capsys.readouterr().out.split("%")[0])
    assert share > 93
    (built,) = build(tmp_path, (tmp_path / "models.yaml").read_text())
    assert built.classes == 10
    figures = built.verification.figures()
    assert figures["network_accuracy"] == pytest.approx(share / 100, abs=0.005)
    assert figures["artifact_accuracy"] == figures["network_accuracy"]

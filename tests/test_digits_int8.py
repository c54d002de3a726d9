"""int8 on a network that was really trained, on images that it has not seen."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import VARIANTS

from builder.build.run import build_repository, resolve
from builder.manifest.models import load_manifest
from builder.triton import model_config

EXAMPLES = Path(__file__).parent.parent / "examples"
INT8 = [name for name, precision in VARIANTS if precision == "int8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    command = [sys.executable, "-m", "builder", "train", EXAMPLES / "digits_training.yaml", "--out", folder / "digits"]
    subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300)
    shutil.copy(EXAMPLES / "digits_int8.yaml", folder)
    return folder


@pytest.mark.parametrize("format_name", INT8)
def test_int8_loses_at_most_half_a_point(format_name: str, trained: Path) -> None:
    manifest = trained / f"{format_name}.yaml"
    text = (trained / "digits_int8.yaml").read_text(encoding="utf-8")
    manifest.write_text(text.replace("format: openvino", f"format: {format_name}"), encoding="utf-8")
    outcome = build_repository(resolve(load_manifest(manifest)), trained / format_name)
    for failure in outcome.failed:
        raise failure.error
    (check,) = [model.verification for model in outcome.built]
    assert check.samples == 450
    assert check.network_accuracy is not None
    assert check.artifact_accuracy is not None
    assert check.network_accuracy >= 0.97
    assert check.artifact_accuracy >= check.network_accuracy - 0.005
    facts = model_config.read(trained / format_name / f"digits_{format_name}_int8" / "config.pbtxt").parameters
    assert float(facts["artifact_accuracy"].string_value) == pytest.approx(check.artifact_accuracy, abs=1e-4)

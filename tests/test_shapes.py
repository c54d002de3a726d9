"""A detector that is trained from nothing and served: the server finds what the module finds, as COCO measures it."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from conftest import ANY_PORTS, build

from builder.launchers import LAUNCHERS

EXAMPLE = Path(__file__).parents[1] / "examples" / "detection"


@pytest.fixture(scope="module")
def train() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        return importlib.import_module("train")


@pytest.fixture(scope="module")
def trained(train: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """Some seconds of training: enough that much of what is drawn is found, if not exactly."""
    folder = tmp_path_factory.mktemp("shapes")
    return folder, made(train, folder, count=256, epochs=6)


def made(train: ModuleType, folder: Path, count: int, epochs: int) -> torch.nn.Module:
    train.save(folder / "shapes" / "heldout", 60, seed=1)
    module: torch.nn.Module = train.train(count, epochs)
    torch.save(module.state_dict(), folder / "shapes" / "shapes.pth")
    shutil.copy(EXAMPLE / "network.py", folder)
    text = (EXAMPLE / "models.yaml").read_text()
    build(folder, text[: text.index("  shapes_openvino:")])
    return module


def served(train: ModuleType, folder: Path) -> float:
    """COCO's figure of what the server answers to pictures as they lie on disk."""
    annotations = folder / "shapes" / "heldout" / "coco.json"
    rows: list[dict[str, object]] = []
    with LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS) as running:
        client = grpc.InferenceServerClient(running.endpoints.grpc)
        for image in json.loads(annotations.read_text())["images"]:
            rows += train.as_rows(image["id"], *ask(client, (annotations.parent / image["file_name"]).read_bytes()))
    return float(train.coco(annotations, rows)[0])


def ask(client: grpc.InferenceServerClient, data: bytes) -> list[np.ndarray]:
    given = grpc.InferInput("IMAGE", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[data]], object))
    answer = client.infer("shapes", [given], client_timeout=60)
    count = int(answer.as_numpy("COUNT")[0, 0])
    return [answer.as_numpy(name)[0, :count] for name in ("BOXES", "SCORES", "CLASSES")]


def test_the_server_finds_what_the_module_finds(train: ModuleType, trained: tuple[Path, torch.nn.Module]) -> None:
    """Over 10 s: a detector is trained, so that there is something to find."""
    folder, module = trained
    own = train.score(module, folder / "shapes" / "heldout" / "coco.json")[0]
    assert own > 0.05
    assert served(train, folder) == pytest.approx(own, abs=0.001)


@pytest.mark.slow
def test_a_longer_training_learns_where_shapes_are(train: ModuleType, tmp_path: Path) -> None:
    """Two minutes of processor time: the training that the example has by default."""
    module = made(train, tmp_path, count=1024, epochs=20)
    own = train.score(module, tmp_path / "shapes" / "heldout" / "coco.json")[0]
    assert own >= 0.8
    assert served(train, tmp_path) == pytest.approx(own, abs=0.001)

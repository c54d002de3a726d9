"""Pictures per second of a served ViT over those of transformers' own processor and network in this process.

Both get the same encoded photos in batches of 8, with all cores, and take turns; medians are compared, and the answers
before. transformers decodes with Pillow, as its pipelines do; --processor torchvision is its faster one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tasks import of_one_size, race, served, show, write_snapshot

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.machine.cores import granted_cores
from builder.manifest.models import load_manifest
from builder.triton.model_config import read

MODEL = "vit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", default="onnx")
    parser.add_argument("--processor", default="pil", choices=("pil", "torchvision"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="batches of 8 in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(granted_cores())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = built(folder, options.format)
        ports = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
        server = stack.enter_context(LAUNCHERS["embedded"].launch(repository, ports))
        pictures = of_one_size(SAMPLES)
        ask = served(server.endpoints.grpc, MODEL, outputs_of(repository), pictures)
        theirs = Own(folder / MODEL, options.processor, pictures)
        error = np.abs(next(iter(ask().values())) - theirs()).max()
        if options.processor == "pil" and not error < 1e-4:
            raise SystemExit(f"the server and transformers differ by {error}")
        show(MODEL, race({"served": ask, "in_process": theirs}, options.rounds, options.batches), {}, options.json)


def built(folder: Path, form: str) -> Path:
    write_snapshot(folder / MODEL)
    (folder / "models.yaml").write_text(f"models:\n  {MODEL}: {{network: 'hf:{MODEL}', format: {form}}}\n")
    outcome = build_repository(resolve(load_manifest(folder / "models.yaml")), folder / "repository")
    for failure in outcome.failed:
        raise failure.error
    return folder / "repository"


def outputs_of(repository: Path) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in read(repository / MODEL / "config.pbtxt").output)


class Own:
    """What transformers' pipeline for pictures does: decoded, processed, run, and softmax."""

    def __init__(self, folder: Path, backend: str, pictures: list[bytes]) -> None:
        import transformers

        self._processor = transformers.AutoImageProcessor.from_pretrained(folder, backend=backend)
        self._network: Any = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        self._pictures = pictures

    def __call__(self) -> np.ndarray:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in self._pictures]
        with torch.inference_mode():
            pixels = self._processor(images, return_tensors="pt")
            found: np.ndarray = self._network(**pixels).logits.softmax(-1).numpy()
        return found


if __name__ == "__main__":
    main()

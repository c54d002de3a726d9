"""Pictures per second of a served detector over those of its own steps in this process, at batches of 8, in one run.

Give it a repository that was built: python benchmarks/tasks.py model_repository shapes --images shapes/heldout
In process, pictures are decoded on as many threads as the served step has, then the artifact runs, then the step that
makes detections. Both get the same encoded bytes; the sides take turns, and medians are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tritonclient.grpc as triton

from builder.data.images import SAMPLES
from builder.data.recipe import PreprocessRecipe
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.machine.cores import granted_cores
from builder.steps import STEPS
from builder.steps.detections import Decoding
from builder.triton.model_config import read
from builder.triton.signature import Signature, TensorSpec
from builder.types import Target

BATCH = 8
OUTPUTS = ("BOXES", "SCORES", "CLASSES", "COUNT")
AT_ONCE = 2  # requests in flight: while one is decoded, the other is in the network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("model")
    parser.add_argument("--images", type=Path, default=SAMPLES, help="a folder of pictures")
    parser.add_argument("--format", default="onnx", choices=sorted(EXPORTERS), help="of the published artifact")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="batches of 8 in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ports = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
    files = [file.read_bytes() for file in sorted(options.images.iterdir()) if file.suffix in (".jpg", ".png")]
    pictures = (files * BATCH)[:BATCH]
    with LAUNCHERS["embedded"].launch(options.repository, ports) as server:
        sides = {
            "served": served(server.endpoints.grpc, options.model, pictures),
            "in_process": in_process(options.repository, options.model, options.format, pictures),
        }
        same(*(side() for side in sides.values()))
        rates = race(sides, options.rounds, options.batches)
    show(options.model, rates, options.json)


def served(url: str, model: str, pictures: list[bytes]) -> Callable[[], list[np.ndarray]]:
    client = triton.InferenceServerClient(url)

    def ask() -> list[np.ndarray]:
        given = triton.InferInput("IMAGE", [BATCH, 1], "BYTES")
        given.set_data_from_numpy(np.array(pictures, object)[:, None])
        answer = client.infer(model, [given], client_timeout=120)
        return [answer.as_numpy(name) for name in OUTPUTS]

    return ask


def in_process(repository: Path, model: str, format_name: str, pictures: list[bytes]) -> Callable[[], list[np.ndarray]]:
    before, network, after = read(repository / model / "config.pbtxt").ensemble_scheduling.step
    parameters = read(repository / before.model_name / "config.pbtxt").parameters
    recipe = PreprocessRecipe.model_validate_json(parameters["recipe"].string_value)
    decoding = Decoding.model_validate_json(
        read(repository / after.model_name / "config.pbtxt").parameters["recipe"].string_value
    )
    place, choose = STEPS["pillow_placed"].function(recipe), STEPS["detections"].function(decoding)
    run, given = loaded(repository / network.model_name, format_name)
    raw = [tensor.name for tensor in STEPS["detections"].signature(decoding).inputs[:-1]]
    names = {between: name for name, between in network.output_map.items()}
    order = [names[after.input_map[name]] for name in raw]
    pool = ThreadPoolExecutor(int(parameters["threads"].string_value))

    def ask() -> list[np.ndarray]:
        pixels, placed = zip(*pool.map(place, pictures), strict=True)
        found = run({given: torch.from_numpy(np.stack(pixels))})
        tensors = [found[name].numpy() for name in order]
        rows = [choose(*(tensor[row] for tensor in tensors), placed[row]) for row in range(BATCH)]
        return [np.stack(column) for column in zip(*rows, strict=True)]

    return ask


def loaded(folder: Path, format_name: str) -> tuple[Any, str]:
    """The published artifact, with as many threads as the server gives it."""
    config = read(folder / "config.pbtxt")
    given, answers = (
        tuple(TensorSpec(t.name, "FP32", tuple(t.dims)) for t in side) for side in (config.input, config.output)
    )
    target = Target(threads=granted_cores())
    file = folder / "1" / config.default_model_filename
    return EXPORTERS[format_name].load(file, target, Signature(given, answers)), given[0].name


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Sides that find different things are not to be compared."""
    if not np.array_equal(ours[3], theirs[3]) or np.abs(ours[0] - theirs[0]).max(initial=0) > 0.5:
        raise SystemExit("the server finds other things than its steps do in this process")


def race(sides: dict[str, Callable[[], object]], rounds: int, batches: int) -> dict[str, list[float]]:
    """Pictures per second of each side, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, ask in sides.items():
            with ThreadPoolExecutor(AT_ONCE if name == "served" else 1) as pool:
                started = time.perf_counter()
                for answer in [pool.submit(ask) for _ in range(batches)]:
                    answer.result(timeout=600)
            rates[name].append(batches * BATCH / (time.perf_counter() - started))
    return rates


def show(model: str, rates: dict[str, list[float]], as_json: bool) -> None:
    ours, theirs = (statistics.median(rates[side]) for side in ("served", "in_process"))
    line = f"{model}: served {ours:.1f}/s  in process {theirs:.1f}/s  ratio {ours / theirs:.2f}"
    print(json.dumps({"model": model, "rates": rates, "ratio": ours / theirs}) if as_json else line)


if __name__ == "__main__":
    main()

"""Served images per second over those of the same artifact in this process, measured in one run.

Two ratios for each network: the network alone (tensors, batch 8) and the whole path (JPEG bytes to
top-5, against decoding on as many threads as the served step and then batches of 8). The sides take
turns, and medians are compared, since machines drift. Everything stays on loopback, bounded in count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import tritonclient.grpc as triton

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.data.recipe import PreprocessRecipe
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.machine.cores import granted_cores
from builder.manifest.models import load_manifest
from builder.steps import STEPS
from builder.triton.model_config import read
from builder.triton.signature import Signature, TensorSpec
from builder.types import Target
from client import Client
from client.client import map_bounded

BATCH = 8
NETWORKS = ("resnet18", "alexnet", "googlenet")
FORMATS = tuple(name for name, exporter in EXPORTERS.items() if exporter.PRECISIONS["cpu"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="batches of 8 in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for network in options.networks:
        for format_name in options.formats:
            row = measure(network, format_name, options.rounds, options.batches)
            rows.append(row)
            if not options.json:
                show(row)
    if options.json:
        print(json.dumps(rows))


def measure(network: str, format_name: str, rounds: int, batches: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "models.yaml")
        manifest.write_text(f"models:\n  bench: {{network: {network}, weights: random, format: {format_name}}}\n")
        repository = Path(folder, "repository")
        outcome = build_repository(resolve(load_manifest(manifest)), repository)
        (built,) = outcome.built
        options = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
        with LAUNCHERS["embedded"].launch(repository, options) as server:
            sides = {
                "network": network_sides(repository, built.network_model, format_name, server.endpoints.grpc),
                "whole": whole_sides(repository, built, format_name, server.endpoints.grpc),
            }
            rates = {name: race(pair, rounds, batches) for name, pair in sides.items()}
    return {"network": network, "format": format_name, "rates": rates}


def race(pair: dict[str, Callable[[int], None]], rounds: int, batches: int) -> dict[str, list[float]]:
    """Images per second of each side, round by round; the sides take turns."""
    rates: dict[str, list[float]] = {name: [] for name in pair}
    for function in pair.values():
        function(2)
    for _ in range(rounds):
        for name, function in pair.items():
            started = time.perf_counter()
            function(batches)
            rates[name].append(batches * BATCH / (time.perf_counter() - started))
    return rates


def network_sides(repository: Path, model: str, format_name: str, url: str) -> dict[str, Callable[[int], None]]:
    predict, config = loaded(repository, model, format_name)
    images = torch.rand(BATCH, *config.input[0].dims)
    data = images.numpy()
    connection = triton.InferenceServerClient(url)

    def request(_: bytes) -> None:
        tensor = triton.InferInput("INPUT__0", list(data.shape), "FP32")
        tensor.set_data_from_numpy(data)
        connection.infer(model, [tensor]).as_numpy("OUTPUT__0")

    def served(batches: int) -> None:
        list(map_bounded(request, [b""] * batches, 2))

    def in_process(batches: int) -> None:
        for _ in range(batches):
            predict(images)

    return {"served": served, "in_process": in_process}


def whole_sides(repository: Path, built: object, format_name: str, url: str) -> dict[str, Callable[[int], None]]:
    predict, _ = loaded(repository, built.network_model, format_name)
    parameters = read(repository / built.preprocess_model / "config.pbtxt").parameters
    recipe = PreprocessRecipe.model_validate_json(parameters["recipe"].string_value)
    preprocess = STEPS["pillow"].function(recipe)
    pool = ThreadPoolExecutor(int(parameters["threads"].string_value))
    photos = [file.read_bytes() for file in sorted(SAMPLES.glob("*.jpg"))] * (BATCH // 4)
    client = Client(url)

    def served(batches: int) -> None:
        for result in client.classify_many(photos * batches, "bench", concurrency=2 * BATCH):
            if result.error:
                raise result.error

    def in_process(batches: int) -> None:
        for _ in range(batches):
            predict(torch.from_numpy(np.stack(list(pool.map(preprocess, photos))))).topk(5)

    return {"served": served, "in_process": in_process}


def loaded(repository: Path, model: str, format_name: str) -> tuple[Callable[[torch.Tensor], torch.Tensor], object]:
    """The published artifact, with as many threads as the server gives it."""
    config = read(repository / model / "config.pbtxt")
    threads = granted_cores()
    target = Target(threads=threads)
    (given,), (answer,) = (
        [TensorSpec(t.name, "FP32", tuple(t.dims)) for t in side] for side in (config.input, config.output)
    )
    signature = Signature((given,), (answer,))
    run = EXPORTERS[format_name].load(repository / model / "1" / config.default_model_filename, target, signature)
    return lambda images: run({given.name: images})[answer.name], config


def show(row: dict[str, object]) -> None:
    for name, sides in row["rates"].items():
        served, direct = (statistics.median(sides[side]) for side in ("served", "in_process"))
        print(
            f"{row['network']:12} {row['format']:12} {name:8} served {served:7.1f}/s  in process {direct:7.1f}/s  "
            f"ratio {served / direct:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

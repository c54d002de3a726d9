"""What clients see of a rollout: p99 while a version is swapped over p99 at rest, and the time to the first new answer.

Two versions of a network take turns, on a server that a few clients ask at a steady pace all the while; windows of rest
and of swaps take turns, too. Everything stays on loopback.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from builder.build.run import build_repository, resolve
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.manifest.models import load_manifest
from builder.repository import golden, layout
from builder.repository.golden import Golden
from builder.triton.connection import Access, connected

KEY = "a-key-of-this-benchmark-alone"
MODEL = "bench"
VERSIONS = (1, 2)


@dataclass
class Seen:
    """By the clients."""

    requests: list[tuple[float, float, int]] = field(default_factory=list)
    """When each began, the seconds that it took, and the version that answered."""
    failed: list[str] = field(default_factory=list)

    def within(self, began: float, ended: float) -> list[float]:
        return [took for at, took, _ in self.requests if began <= at <= ended]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--format", default="onnx")
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between a client's requests")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Path(folder), options)
    print(json.dumps(row) if options.json else shown(row))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    repository = built(folder, options.network, options.format)
    launch = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0, admin_key=KEY)
    with LAUNCHERS["embedded"].launch(repository, launch) as server:
        access = Access(server.endpoints.grpc, KEY)
        seen, stop = Seen(), threading.Event()
        sample = golden.read(repository / MODEL / "1").samples[0]
        asking = (seen, access, sample, options.pause, stop)
        clients = [threading.Thread(target=ask, args=asking) for _ in range(options.clients)]
        for client in clients:
            client.start()
        try:
            return raced(repository, access, seen, options.swaps)
        finally:
            stop.set()
            for client in clients:
                client.join(60)


def built(folder: Path, network: str, format_name: str) -> Path:
    for version in VERSIONS:
        entry = f"{{network: {network}, weights: random, seed: {version}, format: {format_name}}}"
        manifest = folder / "models.yaml"
        manifest.write_text(f"models:\n  {MODEL}: {entry}\n")
        for failure in build_repository(resolve(load_manifest(manifest)), folder / "repository").failed:
            raise failure.error
    return folder / "repository"


def publish(repository: Path, version: int) -> None:
    """As going back does: the network's config, then the ensemble's."""
    for model in sorted(repository.glob(f"{MODEL}*"), reverse=True):
        temporary = repository.parent / "config"
        temporary.write_bytes((model / str(version) / layout.CONFIG).read_bytes())
        temporary.replace(model / layout.CONFIG)


def ask(seen: Seen, access: Access, sample: Golden, pause: float, stop: threading.Event) -> None:
    connection = connected(access)
    while not stop.wait(pause):
        began = time.monotonic()
        try:
            version = connection.infer(MODEL, sample.inputs).version
            seen.requests.append((began, time.monotonic() - began, version))
        except Exception as error:
            seen.failed.append(repr(error))
    connection.close()


def raced(repository: Path, access: Access, seen: Seen, swaps: int) -> dict[str, float]:
    resting: list[float] = []
    swapping: list[float] = []
    waits: list[float] = []
    for turn in range(swaps):
        version = VERSIONS[turn % 2]  # the second was published last
        began = time.monotonic()
        publish(repository, version)
        roll_out(repository, [access], RolloutOptions())
        ended = time.monotonic()
        time.sleep(ended - began)
        rested = time.monotonic()
        swapping += seen.within(began, ended)
        resting += seen.within(ended, rested)
        waits.append(min(at + took for at, took, by in seen.requests if by == version and at >= began) - began)
    return {
        "p99_resting_ms": 1000 * float(np.quantile(resting, 0.99)),
        "p99_swapping_ms": 1000 * float(np.quantile(swapping, 0.99)),
        "p99_ratio": float(np.quantile(swapping, 0.99) / np.quantile(resting, 0.99)),
        "median_ratio": statistics.median(swapping) / statistics.median(resting),
        "seconds_to_new_answers": statistics.median(waits),
        "requests": len(seen.requests),
        "failed": len(seen.failed),
    }


def shown(row: dict[str, float]) -> str:
    return (
        f"p99 {row['p99_swapping_ms']:.0f} ms during swaps, {row['p99_resting_ms']:.0f} ms at rest: ratio "
        f"{row['p99_ratio']:.2f} (medians: {row['median_ratio']:.2f}); new answers after "
        f"{row['seconds_to_new_answers']:.1f} s; {row['failed']:.0f} of {row['requests']:.0f} requests failed"
    )


if __name__ == "__main__":
    main()

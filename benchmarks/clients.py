"""What the client costs: repo-client classify against a load that saturates the server, and shared memory
against inputs by value. Ratios of sides that took turns in one run, each load in a process of its own.

The saturating load is perf_analyzer where `--perf-analyzer` names it (it comes in the wheel of tritonclient
2.50 and needs libb64 and the CUDA runtime), else a bare loop of tritonclient's over requests made before.
Everything stays on loopback, bounded in count.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.manifest.models import load_manifest
from client import Client
from client.batch.run import Question, Table, ask_into
from client.batch.sources import Images
from client.tasks.classification import making

BATCH, CONCURRENCY = 8, 8
NETWORKS = {"resnet18": 240, "alexnet": 480, "lenet": 4000}
"""And how many images each round takes."""
POOL = """
from torch import nn

def pool(size=224):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="in each round, instead of a number by network")
    parser.add_argument("--perf-analyzer", type=Path)
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        CHILDREN[options.child[0]](*options.child[1:])
        return
    with serving(options.networks) as url:
        for network in options.networks:
            show(network, race(url, network, options))
        for line in shared_memory(url, options.rounds):
            print(line, flush=True)


@contextmanager
def serving(networks: list[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pool.py").write_text(POOL)
        entries = [f"  {network}: {{weights: random}}\n" for network in networks]
        for size in (64, 224):
            entry = f"network: pool.py:pool, weights: random, preprocess: {{channels: 3, resize: [{size}, {size}]}}"
            entries.append(f"  pool{size}: {{{entry}}}\n")
        manifest = Path(folder, "models.yaml")
        manifest.write_text("models:\n" + "".join(entries))
        build_repository(resolve(load_manifest(manifest)), Path(folder, "repository"))
        ports = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
        with LAUNCHERS["embedded"].launch(Path(folder, "repository"), ports) as server:
            yield server.endpoints.grpc


def race(url: str, network: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Images per second of both sides, round by round."""
    count = options.images or NETWORKS[network]
    rates: dict[str, list[float]] = {"saturated": [], "classify": []}
    with tempfile.TemporaryDirectory() as folder:
        photo = (SAMPLES / "chelsea.jpg").read_bytes()
        for number in range(count):
            Path(folder, f"{number:06}.jpg").write_bytes(photo)
        child("classify", url, network, folder)
        for _ in range(options.rounds):
            if options.perf_analyzer:
                rates["saturated"].append(perf_analyzer(options.perf_analyzer, url, network, count))
            else:
                rates["saturated"].append(child("saturate", url, network, str(count)))
            rates["classify"].append(child("classify", url, network, folder))
    return rates


def child(*arguments: str) -> float:
    command = [sys.executable, __file__, "--child", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


def classify(url: str, model: str, folder: str) -> None:
    """Prints images per second and the most memory held, in MiB."""
    import resource

    with tempfile.TemporaryDirectory() as out, Client(url) as client:
        client.model(model)
        started = time.perf_counter()
        question = Question(Images([folder]), model, making(5, None), CONCURRENCY, BATCH)
        counts = ask_into(Table(Path(out, "results.csv"), "csv"), client, question)
        seconds = time.perf_counter() - started
    print(counts.done / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def saturate(url: str, model: str, count: str) -> None:
    """Prints images per second of requests that were made before the clock started."""
    import tritonclient.grpc as triton

    photos = [(SAMPLES / "chelsea.jpg").read_bytes()] * BATCH
    tensor = triton.InferInput("IMAGE", [BATCH, 1], "BYTES")
    tensor.set_data_from_numpy(np.array(photos, dtype=np.object_).reshape(-1, 1))
    outputs = [triton.InferRequestedOutput("PROBABILITIES", class_count=5)]
    answers: deque[object] = deque()
    with triton.InferenceServerClient(url) as connection:

        def send() -> None:
            connection.async_infer(
                model, [tensor], lambda result, error: answers.append(error or result), outputs=outputs
            )

        started, sent, taken = time.perf_counter(), 0, 0
        requests = int(count) // BATCH
        while taken < requests:
            while sent - taken < CONCURRENCY and sent < requests:
                send()
                sent += 1
            if answers:
                assert not isinstance(answers.popleft(), Exception)
                taken += 1
            else:
                time.sleep(0.0005)
    print(requests * BATCH / (time.perf_counter() - started))


CHILDREN: dict[str, Callable[..., None]] = {"classify": classify, "saturate": saturate}


def perf_analyzer(program: Path, url: str, model: str, count: int) -> float:
    photo = (SAMPLES / "chelsea.jpg").read_bytes()
    encoded = base64.b64encode(struct.pack("<I", len(photo)) + photo).decode()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as data:
        json.dump({"data": [{"IMAGE": {"b64": encoded}}]}, data)
        data.flush()
        command = [program, "-m", model, "-u", url, "-i", "grpc", "--input-data", data.name, "--shape", "IMAGE:1"]
        command += ["-b", BATCH, "--concurrency-range", CONCURRENCY, "--measurement-mode", "count_windows"]
        command += ["--measurement-request-count", count // BATCH // 3, "-s", 30]
        out = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ).stdout
    found = re.findall(r"Throughput: ([0-9.]+) infer/sec", out)
    if not found:
        raise SystemExit(f"perf_analyzer gave no figure:\n{out}")
    return float(found[-1])


def show(network: str, rates: dict[str, list[float]]) -> None:
    medians = {side: statistics.median(values) for side, values in rates.items()}
    ratio = medians["classify"] / medians["saturated"]
    print(f"{network:10} classify {medians['classify']:8.1f} / saturated {medians['saturated']:8.1f} = {ratio:.2f}")


def shared_memory(url: str, rounds: int) -> Iterator[str]:
    """Milliseconds of a request with float32 images, by value and through shared memory."""
    yield f"\n{'input':>12} {'by value':>10} {'shared':>10} {'ratio':>6}"
    with Client(url, shared_memory=False) as by_value, Client(url, shared_memory=True) as shared:
        sides = {"by value": by_value, "shared": shared}
        for size, batch in ((64, 1), (64, 4), (64, 8), (224, 1), (224, 2), (224, 4), (224, 8)):
            model = f"pool{size}_torchscript"
            pixels = np.random.default_rng(0).random((batch, 3, size, size), np.float32)
            times: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(rounds):
                for side, client in sides.items():
                    times[side].append(milliseconds(client, model, pixels))
            value, mapped = (statistics.median(times[side]) for side in sides)
            yield f"{pixels.nbytes / 1024:8.0f} KiB {value:7.2f} ms {mapped:7.2f} ms {value / mapped:6.2f}"


def milliseconds(client: Client, model: str, pixels: np.ndarray) -> float:
    taken = []
    for _ in range(40):
        started = time.perf_counter()
        client.infer(model, {"INPUT__0": pixels})
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


if __name__ == "__main__":
    main()

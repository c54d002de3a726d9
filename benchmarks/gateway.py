"""Classified images per second through the gateway over those of direct gRPC, measured in one run.

One request an image on both sides, as many at a time, from a load generator in a process of its own; the
sides take turns. Everything stays on loopback, bounded in count.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.manifest.models import load_manifest
from client import AsyncClient

CONCURRENCY = 8
NETWORKS = {"resnet18": 160, "alexnet": 320, "lenet": 2000}
"""And how many images each round takes."""
SIDES = ("direct", "raw", "json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, url, model, count = options.child
        print(asyncio.run(rate(side, url, model, int(count))))
        return
    with serving(options.networks) as (triton, gateway):
        for network in options.networks:
            rates: dict[str, list[float]] = {side: [] for side in SIDES}
            for number in range(options.rounds + 1):
                for side in SIDES:
                    url = triton if side == "direct" else gateway
                    found = child(side, url, network, str(NETWORKS[network]))
                    if number:  # the first round warms up
                        rates[side].append(found)
            show(network, rates)


@contextmanager
def serving(networks: list[str]) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "models.yaml")
        manifest.write_text("models:\n" + "".join(f"  {network}: {{weights: random}}\n" for network in networks))
        build_repository(resolve(load_manifest(manifest)), Path(folder, "repository"))
        ports = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
        with LAUNCHERS["embedded"].launch(Path(folder, "repository"), ports) as server:
            command = [sys.executable, "-m", "client.cli", "gateway", "--port", "0", "--json"]
            command += ["--url", server.endpoints.grpc]
            gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                yield server.endpoints.grpc, json.loads(gateway.stdout.readline())["url"]
            finally:
                gateway.kill()
                gateway.wait(60)


def child(*arguments: str) -> float:
    command = [sys.executable, __file__, "--child", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def rate(side: str, url: str, model: str, count: int) -> float:
    image = (SAMPLES / "chelsea.jpg").read_bytes()
    if side == "direct":
        async with AsyncClient(url) as client:

            async def direct() -> None:
                await client.classify(image, model)

            await direct()  # the model's metadata
            return await timed(direct, count)
    import aiohttp

    headers = {"Content-Type": "image/jpeg" if side == "raw" else "application/json"}
    body = image if side == "raw" else json.dumps({"image": base64.b64encode(image).decode()}).encode()
    async with aiohttp.ClientSession(url, headers=headers) as session:

        async def through() -> None:
            async with session.post("/classify", data=body, params={"model": model}) as answer:
                assert answer.status == 200, await answer.text()
                await answer.json()

        await through()
        return await timed(through, count)


async def timed(ask: Callable[[], Awaitable[None]], count: int) -> float:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await ask()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - started)


def show(network: str, rates: dict[str, list[float]]) -> None:
    medians = {side: statistics.median(values) for side, values in rates.items()}
    ratios = ", ".join(f"{side} {medians[side]:.1f} = {medians[side] / medians['direct']:.2f}" for side in SIDES[1:])
    print(f"{network:10} direct {medians['direct']:.1f} images/s; gateway {ratios}", flush=True)


if __name__ == "__main__":
    main()

"""Served images per second, JPEG to top-5: formats and precisions beside the articles' Flask service.

All sides serve the same ResNet-18 with random weights on this machine, over loopback, to the same
number of clients, and take turns; medians are compared, since machines drift. The Flask service does
what the article's does: one image a request, base64 in JSON, PyTorch's eager module, Flask's own server.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import socket
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.machine.hardware import cpu_computes
from builder.manifest.models import load_manifest
from client import Client
from client.client import map_bounded

BASE = ("torchscript", "fp32")
VARIANTS = [BASE, ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "int8"), ("aoti", "fp32")]
CLIENTS = 8
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=64, help="in each round")
    options = parser.parse_args()
    variants = VARIANTS + ([("openvino", "bf16")] if cpu_computes("bf16") else [])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        sides = {f"{f} {p}": served(running, Path(folder), options.network, f, p) for f, p in variants}
        sides["flask"] = flask_side(running, options.network)
        show(race(sides, options.rounds, options.images))


def served(
    running: ExitStack, folder: Path, network: str, format_name: str, precision: str
) -> Callable[[list[bytes]], None]:
    """A server of its own for each, so that idle instances take nothing from the one that is timed."""
    home = folder / f"{format_name}-{precision}"
    home.mkdir()
    entry = f"{{network: {network}, weights: random, format: {format_name}, precision: {precision}"
    (home / "models.yaml").write_text(f"models:\n  bench: {entry}, calibration: {SAMPLES}}}\n")
    outcome = build_repository(resolve(load_manifest(home / "models.yaml")), home / "repository")
    for failure in outcome.failed:
        raise failure.error
    options = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
    server = running.enter_context(LAUNCHERS["embedded"].launch(home / "repository", options))
    client = running.enter_context(Client(server.endpoints.grpc))

    def ask(photos: list[bytes]) -> None:
        for result in client.classify_many(photos, "bench", concurrency=CLIENTS):
            if result.error:
                raise result.error

    return ask


def flask_side(running: ExitStack, network: str) -> Callable[[list[bytes]], None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=flask_service, args=(network, port), daemon=True)
    process.start()
    running.callback(process.terminate)
    while process.is_alive():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)

    def request(photo: bytes) -> None:
        body = json.dumps({"image": base64.b64encode(photo).decode()}).encode()
        headers = {"Content-Type": "application/json"}
        question = urllib.request.Request(f"http://127.0.0.1:{port}/classify", body, headers)
        with DIRECT.open(question, timeout=60) as answer:
            assert len(json.load(answer)["predictions"]) == 5

    return lambda photos: list(map_bounded(request, photos, CLIENTS))


def flask_service(network: str, port: int) -> None:
    """One image a request, as a web developer would write it around a model."""
    import logging

    import flask
    import torch
    import torchvision
    from PIL import Image

    from builder.data.recipe import IMAGENET

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app, transform = flask.Flask("classifier"), IMAGENET.reference_transform()
    module = torchvision.models.get_model(network).eval()

    @app.post("/classify")
    def classify() -> flask.Response:
        data = base64.b64decode(flask.request.get_json()["image"])
        tensor = transform(Image.open(io.BytesIO(data)).convert("RGB")).unsqueeze(0)
        with torch.no_grad():
            best = module(tensor).softmax(1)[0].topk(5)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return flask.jsonify(predictions=[{"class": c, "probability": p} for c, p in pairs])

    app.run("127.0.0.1", port)


def race(sides: dict[str, Callable[[list[bytes]], None]], rounds: int, images: int) -> dict[str, float]:
    """Median images per second of each side."""
    photos = [file.read_bytes() for file in sorted(SAMPLES.glob("*.jpg"))]
    batch = [photos[i % len(photos)] for i in range(images)]
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for ask in sides.values():
        ask(batch[: 2 * CLIENTS])
    for _ in range(rounds):
        for name, ask in sides.items():
            started = time.perf_counter()
            ask(batch)
            rates[name].append(images / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def show(rates: dict[str, float]) -> None:
    base, flask = rates[" ".join(BASE)], rates["flask"]
    for name, rate in rates.items():
        print(f"{name:18} {rate:7.1f} images/s  x TorchScript fp32 {rate / base:5.2f}  x Flask {rate / flask:5.2f}")


if __name__ == "__main__":
    main()

"""The whole way, as a user goes it: train, build, serve, classify, measure, stop."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from builder.networks.lenet import RECIPE, lenet
from builder.networks.weights import read_state
from client import Classified, Client

HERE = Path(__file__).parent
REPOSITORY = HERE / "digits" / "model_repository"
HELD_OUT = HERE / "digits" / "heldout"
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PROGRAM = [sys.executable, "-m", "builder"]
CONCURRENCY = 4
REQUIRED_ACCURACY = 0.97
STOP_S = 60


def main() -> int:
    run([*PROGRAM, "train", str(HERE / "digits_training.yaml"), "--fresh"])
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    run([*PROGRAM, "build", "-m", str(HERE / "digits.yaml"), "-r", str(REPOSITORY)])
    command = [*PROGRAM, "serve", "-r", str(REPOSITORY), "--json"]
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    server = subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True)
    try:
        ready = server.stdout.readline()
        if not ready:
            return server.wait(STOP_S)
        with Client(json.loads(ready)["grpc"]) as client:
            correct = measure(client)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(STOP_S)
    return code or (0 if correct else 1)


def run(command: list[str]) -> None:
    if code := subprocess.run(command).returncode:
        sys.exit(code)


def measure(client: Client) -> bool:
    files = sorted(HELD_OUT.rglob("*.png"))
    list(client.classify_many(files[:50], concurrency=CONCURRENCY))
    latencies = [timed(client, file) for file in files[:200]]
    started = time.perf_counter()
    results = list(client.classify_many(files, concurrency=CONCURRENCY))
    rate = len(files) / (time.perf_counter() - started)
    served = float(np.mean([is_right(result) for result in results]))
    direct = pytorch_accuracy(files)
    print_table(files, served, direct, latencies, rate)
    show(results[0])
    return served >= REQUIRED_ACCURACY and served == direct


def timed(client: Client, file: Path) -> float:
    """Milliseconds of one request, alone."""
    data, started = file.read_bytes(), time.perf_counter()
    client.classify(data, "digits")
    return (time.perf_counter() - started) * 1000


def is_right(result: Classified[Path]) -> bool:
    return bool(result.predictions) and result.predictions[0].class_id == int(result.image.parent.name)


def pytorch_accuracy(files: list[Path]) -> float:
    """The trained module on the same files, through torchvision's own transforms."""
    network = lenet()
    network.load_state_dict(read_state(HERE / "digits" / "best.safetensors"))
    transform = RECIPE.reference_transform()
    images = torch.stack([transform(RECIPE.decode(file)) for file in files])
    with torch.inference_mode():
        found = network.eval()(images).argmax(1).tolist()
    return float(np.mean([label == int(file.parent.name) for label, file in zip(found, files, strict=True)]))


def print_table(files: list[Path], served: float, direct: float, latencies: list[float], rate: float) -> None:
    p50, p99 = np.percentile(latencies, [50, 99])
    print(f"\nheld-out digits, as PNG files    {len(files)}")
    print(f"accuracy, served                 {served:.2%}")
    print(f"accuracy, PyTorch module         {direct:.2%}")
    print(f"latency, one at a time           p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    print(f"throughput, {CONCURRENCY} at a time         {rate:.0f} images/s\n")


def show(result: Classified[Path]) -> None:
    print(f"{result.image.relative_to(HERE)} is a {LABELS[int(result.image.parent.name)]}:")
    for prediction in result.predictions:
        print(f"  {prediction.probability:8.4%}  {prediction.label}")


if __name__ == "__main__":
    sys.exit(main())

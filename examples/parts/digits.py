"""LeNet on real digits: trained, and asked about those that were held out."""

import shutil
import time
from pathlib import Path

import numpy as np
import torch

from builder.data.labels import SETS
from builder.networks.lenet import RECIPE, lenet
from builder.networks.weights import read_state
from client import Classified, Client
from parts.program import EXAMPLES, run, serving

FOLDER = EXAMPLES / "digits"
REPOSITORY = FOLDER / "model_repository"
CONCURRENCY = 4
REQUIRED_ACCURACY = 0.97


def show() -> list[str]:
    """What is wrong; nothing, if all is well."""
    run("train", EXAMPLES / "digits_training.yaml", "--fresh", "--progress", "bar")
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    run("build", "-m", EXAMPLES / "digits.yaml", "-r", REPOSITORY)
    with serving(REPOSITORY) as address, Client(address) as client:
        return measure(client)


def measure(client: Client) -> list[str]:
    files = sorted((FOLDER / "heldout").rglob("*.png"))
    list(client.classify_many(files[:50], concurrency=CONCURRENCY))
    latencies = [timed(client, file) for file in files[:200]]
    started = time.perf_counter()
    results = list(client.classify_many(files, concurrency=CONCURRENCY))
    rate = len(files) / (time.perf_counter() - started)
    served = float(np.mean([is_right(result) for result in results]))
    direct = pytorch_accuracy(files)
    print_table(files, served, direct, latencies, rate)
    print_one(results[0])
    return faults(served, direct)


def faults(served: float, direct: float) -> list[str]:
    found = []
    if served != direct:
        found.append(f"digits: the server's accuracy is {served:.2%}, the module's {direct:.2%}")
    if served < REQUIRED_ACCURACY:
        found.append(f"digits: the accuracy is {served:.2%}, below {REQUIRED_ACCURACY:.0%}")
    return found


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
    network.load_state_dict(read_state(FOLDER / "best.safetensors"))
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


def print_one(result: Classified[Path]) -> None:
    print(f"{result.image.relative_to(EXAMPLES)} is a {SETS['digits']()[int(result.image.parent.name)]}:")
    for prediction in result.predictions:
        print(f"  {prediction.probability:8.4%}  {prediction.label}")

"""Images per second of `build-repo train`'s epochs over those of a bare loop, measured in one run.

Both sides have the same network, loader, optimizer and settings, and take turns, an epoch each; the bare loop is
the one that every tutorial shows. `--beside N` has N whole runs at once, as build-repo has threads wait and as GNU
OpenMP has them by itself, in turns. With a GPU, `--article --images 60000` times epochs of the second article's
network on images made up in the form of Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from builder.machine import cores
from builder.training import loop, run, setup, trainable
from builder.training.loop import Progress, Sums
from builder.training.placement import placement_of
from builder.training.setup import Setup
from builder.training.spec import load_run

CASES: dict[str, dict[str, Any]] = {
    "lenet 28x28, digits": {"network": "lenet", "data.set": "digits", "batch_size": 64},
    "lenet 28x28, digits, augmented": {
        "network": "lenet", "data.set": "digits", "batch_size": 64, "augment": {"shift": 2, "flip": 0.5},
    },
    "alexnet_gray 224x224": {"network": "alexnet_gray", "data.set": "fashion_mnist", "batch_size": 32},
    "resnet18 64x64, JPEG": {
        "network": "resnet18", "data.set": "image_folder", "batch_size": 32, "preprocess": {"resize": 64, "crop": 64},
    },
}  # fmt: skip
OWN_SPINS = "300000"
"""Of GNU OpenMP, where nothing is said."""
ARTICLE = 128.3
"""Seconds of the article's first epoch, on its GPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256, help="in the made-up sets")
    parser.add_argument("--article", action="store_true", help="whole epochs of alexnet_gray; give --images 60000")
    parser.add_argument("--beside", type=int, help="so many whole runs at once")
    options = parser.parse_args()
    if options.beside:
        race_waiting(options.beside, options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.article:
            article(Path(folder), options.images)
            return
        roots = {"fashion_mnist": fashion(Path(folder, "fashion"), options.images), "digits": None}
        roots["image_folder"] = pictures(Path(folder, "pictures"), options.images)
        for name, said in CASES.items():
            root = roots[said["data.set"]]
            race(name, {**said, "data.root": root and str(root), "out": folder, "lr": 0.001}, options.rounds)


def race_waiting(runs: int, rounds: int) -> None:
    seconds: dict[str, list[float]] = {cores.SPINS: [], OWN_SPINS: []}
    for number in range(rounds):
        for spins in [*seconds][:: 1 if number % 2 else -1]:
            seconds[spins].append(runs_at_once(runs, spins))
    ours, bare = (statistics.median(seconds[spins]) for spins in (cores.SPINS, OWN_SPINS))
    ratio = statistics.median(a / b for a, b in zip(seconds[cores.SPINS], seconds[OWN_SPINS], strict=True))
    print(f"{runs} at once: {ours:.1f} / {bare:.1f} s = {ratio:.2f}", flush=True)


def runs_at_once(runs: int, spins: str) -> float:
    command = [sys.executable, "-m", "builder", "train", "--network", "lenet", "--data", "digits", "--epochs", "3"]
    environment = os.environ | {cores.SPIN: spins}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        started = [
            subprocess.Popen([*command, "--out", f"{folder}/{n}"], stdout=subprocess.DEVNULL, env=environment)
            for n in range(runs)
        ]
        codes = [process.wait(600) for process in started]
        assert not any(codes), codes
        return time.perf_counter() - begun


def race(name: str, said: dict[str, Any], rounds: int) -> None:
    """Each side has a network of its own; the first round warms up."""
    with job(said) as ours, job(said) as theirs:
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(rounds + 1):
            sides = (("ours", our_epoch, ours), ("bare", bare_epoch, theirs))
            for side, epoch, of in sides[:: 1 if number % 2 else -1]:
                of.batches.epoch = number + 1
                seconds = timed(epoch, of, number + 1)
                if number:
                    rates[side].append(len(of.train.dataset) / seconds)
    ours_rate, bare_rate = (statistics.median(rates[side]) for side in ("ours", "bare"))
    ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["bare"], strict=True))
    print(f"{name}: {ours_rate:.1f} / {bare_rate:.1f} images/s = {ratio:.2f}", flush=True)


@contextmanager
def job(said: dict[str, Any]) -> Iterator[Setup]:
    asked = load_run(None, {key: value for key, value in said.items() if value is not None})
    with placement_of(asked.spec) as placement:
        split = run.load_data(asked, run.Watcher())
        made = setup.make(asked, placement, split, trainable.make(asked, len(split.labels)))
        trainable.set_trainable(made.module, made.trainable)
        yield made


def timed(epoch: Any, of: Setup, number: int) -> float:
    started = time.perf_counter()
    epoch(of, number)
    return time.perf_counter() - started


def our_epoch(of: Setup, number: int) -> None:
    progress = Progress(epoch=number)
    loop.begin_epoch(of, progress)
    sums = Sums.none(of.placement)
    loop.train_epoch(of, progress, sums, lambda: None)
    sums.means(of.placement)


def bare_epoch(of: Setup, number: int) -> None:
    """As tutorials write it; mixed precision and layout as ours has them."""
    del number
    criterion = nn.CrossEntropyLoss()
    of.module.train()
    loss_sum, right, count = 0.0, 0, 0
    for images, classes in of.train:
        images = of.placement.placed(images)
        classes = classes.to(of.placement.device)
        with of.placement.autocast():
            scores = of.module(images)
            loss = criterion(scores, classes)
        of.optimizer.zero_grad()
        loss.backward()
        of.optimizer.step()
        loss_sum += loss.item()
        right += (scores.argmax(dim=1) == classes).sum().item()
        count += len(classes)


def article(folder: Path, images: int) -> None:
    """Epochs as the article has them, held-out images included."""
    root = fashion(folder / "data", images, images // 6)
    said = {
        "network": "alexnet_gray", "data.set": "fashion_mnist", "data.root": str(root), "epochs": 3, "lr": 0.001,
        "batch_size": 128, "out": str(folder / "run"),
    }  # fmt: skip
    for record in run.train(load_run(None, said)).history:
        rate = f"{record['images_per_s']:.0f} images/s while training"
        print(f"epoch {record['epoch']}: {record['seconds']:.1f} s ({rate}); the article's took {ARTICLE} s on its GPU")


def fashion(root: Path, train: int, heldout: int = 32) -> Path:
    """IDX files of noise: what is learnt from it does not matter here."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", heldout)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        classes = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", classes)):
            head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            (root / f"{prefix}-{name}-ubyte").write_bytes(head + array.tobytes())
    return root


def pictures(root: Path, count: int) -> Path:
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        path = root / str(number % 4) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(small).resize((128, 128)).save(path)
    return root


if __name__ == "__main__":
    main()

"""What a build costs that has nothing to build: `build-repo` over `python -c pass`, in turns, in one run.

The models are built once, one of each network; a thousand entries are copies of one small model under other names, with
what is recorded of them. The first turn hashes everything, the others remember.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from builder.repository import lock
from builder.util import hashing

NETWORKS = ("alexnet", "vgg16", "googlenet")
SMALL = "network: lenet, weights: random, format: onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="built once each, with random weights")
    parser.add_argument("--entries", type=int, nargs="*", default=[1000], help="copies of one small model")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        race(built(Path(folder) / "few", options.networks), f"{len(options.networks)} models", options.rounds)
        for count in options.entries:
            race(copied(Path(folder) / str(count), count), f"{count} models", options.rounds)


def race(folder: Path, what: str, rounds: int) -> None:
    """Nothing is built in any of the turns, or this ends."""
    seconds: dict[str, list[float]] = {"no-op build": [], "python -c pass": []}
    for _ in range(rounds):
        seconds["no-op build"].append(timed(lambda: require_nothing_built(folder)))
        seconds["python -c pass"].append(timed(lambda: run("-c", "pass")))
    first = seconds["no-op build"].pop(0)
    ours, bare = (statistics.median(values) for values in seconds.values())
    print(f"{what:14} no-op build {ours:.3f} s / python -c pass {bare:.3f} s = {ours / bare:.1f}; first {first:.3f} s")


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def require_nothing_built(folder: Path) -> None:
    output = run("-m", "builder", "-m", f"{folder}/models.yaml", "-r", f"{folder}/models", "--json")
    if json.loads(output)["built"]:
        sys.exit(f"something was built again: {output[:500]}")


def run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def built(folder: Path, networks: list[str]) -> Path:
    folder.mkdir()
    keys = "weights: random, tolerance: {top1_agreement: 0}"
    write_manifest(folder, dict.fromkeys(networks, keys))
    run("-m", "builder", "-m", f"{folder}/models.yaml", "-r", f"{folder}/models")
    return folder


def write_manifest(folder: Path, entries: dict[str, str]) -> None:
    text = "".join(f"  {name}: {{{keys}}}\n" for name, keys in entries.items())
    (folder / "models.yaml").write_text(f"models:\n{text}")


def copied(folder: Path, count: int) -> Path:
    """A repository of so many models, of which one was built."""
    folder.mkdir()
    write_manifest(folder, {"m0": SMALL})
    run("-m", "builder", "-m", f"{folder}/models.yaml", "-r", f"{folder}/models")
    repository = folder / "models"
    recorded = lock.read(repository)
    parts = [name for name in recorded if name.startswith("m0")]
    for number in range(1, count):
        for part in parts:
            recorded[part.replace("m0", f"m{number}", 1)] = renamed(repository, part, number, recorded[part])
    (repository / lock.FILENAME).write_text(lock.to_text(recorded))
    write_manifest(folder, {f"m{number}": SMALL for number in range(count)})
    return folder


def renamed(repository: Path, part: str, number: int, model: lock.Model) -> lock.Model:
    """The model under another name, and what is recorded of it."""
    target = repository / part.replace("m0", f"m{number}", 1)
    shutil.copytree(repository / part, target)
    for config in target.rglob("config.pbtxt"):
        config.write_text(config.read_text().replace('"m0', f'"m{number}'))
    (version,) = filter(None, model.versions.values())
    files = {name: hashing.sha256(target / name) for name in version.files}
    return lock.Model({"1": lock.Version(files, version.built_from, version.was_published)})


if __name__ == "__main__":
    main()

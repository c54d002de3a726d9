"""Seconds of `build-repo push` over those of `rclone copy` of the same to the same S3 server, measured in one run.

The server is rclone's, on loopback, over a folder. Both sides take turns, each into a place of its own that is empty;
the push also reads the whole repository once, to see that it is what was built. Then both again, without a change;
and a pull over a copy back, which does not verify.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

RCLONE = Path(sys.executable).with_name("rclone")
KEY, SECRET = "benchmark", "benchmark-secret"
MIB = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--models", type=int, default=4, help="that they are spread over")
    parser.add_argument("--folder", type=Path, help="for everything; default: that for temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make(folder / "repository", options.models, options.megabytes * MIB // options.models)
        with serving(folder / "store") as environment:
            race(folder, environment, options.rounds)


def make(repository: Path, models: int, size: int) -> None:
    from published import publish_model

    for number in range(models):
        publish_model(
            repository,
            f"m{number}",
            backend="onnxruntime",
            filename="model.onnx",
            files={"model.onnx": os.urandom(size)},
        )


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    (folder / "bucket").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [
        RCLONE,
        "serve",
        "s3",
        folder,
        "--addr",
        address,
        "--auth-key",
        f"{KEY},{SECRET}",
        "--config",
        os.devnull,
    ]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        await_port(address)
        yield os.environ | {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{address}",
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_S3_PROVIDER": "Rclone",
            "RCLONE_S3_ENDPOINT": f"http://{address}",
            "RCLONE_S3_ACCESS_KEY_ID": KEY,
            "RCLONE_S3_SECRET_ACCESS_KEY": SECRET,
        }
    finally:
        server.kill()
        server.wait(30)


def await_port(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the S3 server does not listen")


def race(folder: Path, environment: dict[str, str], rounds: int) -> None:
    def program(*words: object) -> Callable[[], float]:
        return lambda: timed([sys.executable, "-m", "builder", *words], environment)

    def rclone(source: object, target: object) -> Callable[[], float]:
        return lambda: timed([RCLONE, "copy", source, target], environment)

    times: dict[str, list[tuple[float, float]]] = {"push": [], "push, no change": [], "pull": []}
    for number in range(rounds):
        ours, theirs, here = f"ours{number}", f"theirs{number}", folder / "repository"
        push, copy = program("push", f"s3://bucket/{ours}", "-r", here), rclone(here, f":s3:bucket/{theirs}")
        back = program("pull", f"s3://bucket/{ours}", "-r", folder / "back ours")
        copy_back = rclone(f":s3:bucket/{theirs}", folder / "back theirs")
        for name, sides in (("push", (push, copy)), ("push, no change", (push, copy)), ("pull", (back, copy_back))):
            times[name].append(in_turns(*sides, ours_first=number % 2 == 0))
        for place in (folder / "back ours", folder / "back theirs", *(folder / "store" / "bucket").iterdir()):
            shutil.rmtree(place)
    for name, pairs in times.items():
        one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name}: {one:.2f} / {other:.2f} s = {ratio:.2f}", flush=True)


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], ours_first: bool) -> tuple[float, float]:
    if ours_first:
        first = ours()
        return first, theirs()
    last = theirs()
    return ours(), last


def timed(command: list[object], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [str(word) for word in command], env=environment, check=True, timeout=1200, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

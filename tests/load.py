"""Requests without a pause while what answers them is stopped: those that had begun by then must be answered.

`python load.py grpc|http KEY UNIT...` asks the server, or the gateway before it, whose key KEY is, stops systemd's
units, and prints what became of the requests that were in flight.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

from PIL import Image

from builder.data.images import SAMPLES
from client import Client

THREADS = 8
BATCH = 8
WIDTH = 1000
ROUNDS = 3  # before the stop
PATIENCE = 120
GATEWAY = "http://127.0.0.1:8080/classify"


def in_flight(ask: Callable[[], object], stop: Callable[[], object]) -> list[object]:
    """What the requests were answered, or their errors, that had begun before the call of `stop` and ended after it."""
    requests: list[tuple[float, float, object]] = []
    threads = [threading.Thread(target=_keep_asking, args=(ask, requests)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    while len(requests) < ROUNDS * THREADS and time.monotonic() < deadline:
        time.sleep(0.01)
    stopped = time.monotonic()
    stop()
    for thread in threads:
        thread.join(PATIENCE)
    return [answer for began, ended, answer in requests if began < stopped < ended]


def _keep_asking(ask: Callable[[], object], requests: list[tuple[float, float, object]]) -> None:
    """Until a request fails, as the first after the stop does."""
    answer: object = None
    while not isinstance(answer, str):
        began = time.monotonic()
        try:
            answer = ask()
        except Exception as error:  # judged by who reads it; raised in a thread it would only be printed
            answer = repr(error)
        requests.append((began, time.monotonic(), answer))


def over_grpc(client: Client) -> Callable[[], int]:
    """Answers BATCH."""
    model, photo = client.classifier().name, large_photo()
    return lambda: len(client.classify_batch([photo] * BATCH, model))


def over_http(key: str) -> Callable[[], int]:
    """Answers the number of classes told."""
    photo, headers = large_photo(), {"Content-Type": "image/jpeg", "Authorization": f"Bearer {key}"}

    def ask() -> int:
        with urllib.request.urlopen(urllib.request.Request(GATEWAY, photo, headers)) as answer:
            return len(json.load(answer)["predictions"])

    return ask


def large_photo() -> bytes:
    stream = io.BytesIO()
    with Image.open(SAMPLES / "rocket.jpg") as image:
        image.resize((WIDTH, WIDTH * image.height // image.width)).save(stream, "JPEG")
    return stream.getvalue()


def main(kind: str, key: str, *units: str) -> None:
    stop = ["systemctl", "stop", "--no-block", *units]
    with Client("127.0.0.1:8001", retries=0) as client:
        ask = over_grpc(client) if kind == "grpc" else over_http(key)
        print(json.dumps(in_flight(ask, lambda: subprocess.run(stop, check=True, timeout=120))))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Requests that are in flight while services are stopped, from a process beside them.

`python load.py grpc|http KEY UNIT...` asks the server, or the gateway before it, stops the units, and prints how many
images or classes each request was answered, or its error. Triton has taken in all requests when it is told to stop; the
gateway has its --drain for that. KEY is the gateway's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

from builder.pictures import SAMPLES
from client import Client

REQUESTS = 16
BATCH = 8
PHOTO = sorted(SAMPLES.glob("*.jpg"))[0]
METRICS = "http://127.0.0.1:8002/metrics"
GATEWAY = "http://127.0.0.1:8080/classify"
PATIENCE = 120


def main(kind: str, key: str, *units: str) -> None:
    answers: list[object] = []
    with Client("127.0.0.1:8001", retries=0) as client:
        ask = over_grpc(client) if kind == "grpc" else over_http(key)
        enough = REQUESTS if kind == "grpc" else 1
        threads = [threading.Thread(target=record, args=(ask, answers)) for _ in range(REQUESTS)]
        before = taken()
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while taken() < before + enough and time.monotonic() < deadline:
            pass
        subprocess.run(["systemctl", "stop", "--no-block", *units], check=True)
        for thread in threads:
            thread.join()
    print(json.dumps(answers))


def record(ask: Callable[[], int], answers: list[object]) -> None:
    try:
        answers.append(ask())
    except Exception as error:
        answers.append(repr(error))


def over_grpc(client: Client) -> Callable[[], int]:
    model = client.classifier().name
    return lambda: len(client.classify_batch([PHOTO] * BATCH, model))


def over_http(key: str) -> Callable[[], int]:
    headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {key}"}

    def ask() -> int:
        request = urllib.request.Request(GATEWAY, PHOTO.read_bytes(), headers)
        with urllib.request.urlopen(request) as answer:
            return len(json.load(answer)["predictions"])

    return ask


def taken() -> float:
    """Requests that the preprocessing step holds or has done."""
    with urllib.request.urlopen(METRICS) as response:
        lines = [line for line in response.read().decode().splitlines() if 'model="preprocess' in line]
    counts = ("nv_inference_request_success", "nv_inference_pending_request_count")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Asks for one photo's class again and again until a file appears, and tells what came back. Runs in a container.

python swarm_load.py ADDRESS PHOTO MODEL STOP_FILE OUTPUT: at most 120 seconds and 20,000 requests.
"""

from __future__ import annotations

import collections
import json
import sys
import threading
import time
from pathlib import Path

from client import Client, ClientError

THREADS = 4
SECONDS, REQUESTS = 120, 20_000


def main() -> None:
    address, photo, model, stop, output = sys.argv[1:]
    image = Path(photo).read_bytes()
    answers: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    deadline = time.monotonic() + SECONDS

    def ask() -> None:
        with Client(address, retries=5, timeout=20) as client:
            while not Path(stop).exists() and time.monotonic() < deadline and sum(answers.values()) < REQUESTS:
                try:
                    (probabilities,) = client.probabilities([image], model)
                    answers[f"{probabilities[0]:.4f}"] += 1
                except ClientError as error:
                    failures.append(f"{type(error).__name__}: {error}")
                Path(output).with_suffix(".now").write_text(json.dumps({"answers": answers, "failures": failures}))
                time.sleep(0.05)

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    Path(output).write_text(json.dumps({"answers": answers, "failures": failures}))


if __name__ == "__main__":
    main()

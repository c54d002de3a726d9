"""Programs that do nothing but wait for their end: what is between two waits is all that a signal can hit."""

import os
import signal
import sys
import threading
from pathlib import Path

BUILDER = Path(__file__).parent.parent / "builder"
SECONDS = 0.00002


def client() -> None:
    from client.signals import Stop

    stop = Stop()
    stop.listen()
    wait_for(stop)


def first_process() -> None:
    sys.path += map(str, (BUILDER / "launchers", BUILDER / "triton"))  # whose files are beside it in containers
    from builder.runtimes.container.entry import Stop

    stop = Stop()
    stop.listen()
    wait_for(stop)


def event() -> None:
    """How it must not be."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    wait_for(stop)


def builder() -> None:
    """A lock is taken, and all is cleaned up, whatever comes when."""
    from builder.machine import signals

    lock = threading.Condition()
    try:
        signals.listen()
        os.write(1, b"waiting\n")  # a signal between what print writes would cut the line in two
        while True:
            with signals.held(), lock:
                lock.wait(SECONDS)
    except (KeyboardInterrupt, SystemExit) as error:
        with lock:
            print("cleaned", flush=True)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else error.code)
    finally:
        signals.hold()


def wait_for(stop: object) -> None:
    print("waiting", flush=True)
    while not stop.wait(SECONDS):  # type: ignore[attr-defined]
        pass
    print("stopped", flush=True)

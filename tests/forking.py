"""A program that uses a client, forks, and says what its children were answered. `test_forks.py` starts it.

Run by itself, so that nothing of the tests' own threads and gRPC servers is forked.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client import AsyncClient, Client, ClientError, Forked

CHILD_SECONDS = 60.0
CHILDREN = 3
CALLS = 15
Said = dict[str, Any]


def in_children(works: list[Callable[[], Said]], end: Callable[[int], Any] = os._exit) -> list[Said]:
    """What each says, by os.fork; one that is not through in time is killed, and has said "hung"."""
    children = [_forked(work, end) for work in works]
    return [_said(*child) for child in children]


def _forked(work: Callable[[], Said], end: Callable[[int], Any]) -> tuple[int, int]:
    ours, theirs = os.pipe()
    if child := os.fork():
        os.close(theirs)
        return child, ours
    code = 1
    try:
        os.write(theirs, json.dumps(work()).encode())
        code = 0
    finally:
        end(code)
    raise AssertionError


def _said(child: int, pipe: int) -> Said:
    deadline = time.monotonic() + CHILD_SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"hung": True}
        time.sleep(0.02)
    text = os.read(pipe, 65536)
    return json.loads(text) if ended[1] == 0 and text else {"code": ended[1]}


def counted(client: Any, image: bytes, calls: int = CALLS) -> Said:
    return dict(Counter(_label(client, image) for _ in range(calls)))


def _label(client: Any, image: bytes) -> str:
    try:
        return str(client.classify(image)[0].label)
    except ClientError as error:
        return f"{type(error).__name__}: {error}"


class Busy:
    """Calls of the parent's in flight, of `classify_many` and of `classify`, on threads, until it is left."""

    def __init__(self, client: Client, image: bytes) -> None:
        self._client, self._image = client, image
        self._over = threading.Event()
        self.said: Counter[str] = Counter()
        self._threads = [threading.Thread(target=work) for work in (self._many, self._single, self._single)]

    def __enter__(self) -> "Busy":
        for thread in self._threads:
            thread.start()
        while not self.said:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _many(self) -> None:
        def images() -> Any:
            while not self._over.is_set():
                yield self._image

        for result in self._client.classify_many(images(), concurrency=4, batch_size=1):
            self.said[result.predictions[0].label if result.predictions else str(result.error)] += 1

    def _single(self) -> None:
        while not self._over.is_set():
            self.said[_label(self._client, self._image)] += 1


def quiet(client: Client, images: list[bytes]) -> Said:
    children = in_children([lambda image=image: counted(client, image) for image in images])  # type: ignore[misc]
    return {"children": children, "parent": counted(client, images[0])}


def busy(client: Client, images: list[bytes]) -> Said:
    works: Any = [lambda image=image: counted(client, image) for image in images]
    with Busy(client, images[0]) as parents:
        children = [said for _ in range(CHILDREN) for said in in_children(works)]
    return {"children": children, "parent": {**parents.said, **counted(client, images[0])}}


def processes(client: Client, images: list[bytes]) -> Said:
    """As multiprocessing forks, and its pools."""
    context, inherited = multiprocessing.get_context("fork"), _Inherited(client)
    with context.Pool(len(images)) as pool:
        answers = [pool.apply_async(counted, (inherited, image)) for image in images]
        children = [answer.get(CHILD_SECONDS) for answer in answers]
    return {"children": children, "parent": counted(client, images[0])}


class _Inherited:
    """A client that a pool's process has by the fork, as its number in this module goes through the pipe."""

    known: dict[int, Client] = {}  # noqa: RUF012

    def __init__(self, client: Client) -> None:
        self.known[0] = client

    def classify(self, image: bytes) -> Any:
        return self.known[0].classify(image)


def closing(client: Client, images: list[bytes]) -> Said:
    """Children close their copy, drop it, and end with all of Python's own farewells; then the parent goes on."""
    of_parent = regions()

    def closed() -> Said:
        client.close()
        return counted(client, images[1], 1)

    def used(calls: int, close: bool) -> Said:
        said = counted(client, images[1], calls)
        made = sorted(regions() - of_parent)
        if close:
            client.close()
        return {"said": said, "made": made}

    children = in_children([closed, lambda: used(2, True), lambda: used(2, False), lambda: used(0, True)], sys.exit)
    left = [name for said in children for name in said.get("made", ()) if Path(name).exists()]
    kept = all(Path(name).exists() for name in of_parent)
    return {"children": children, "left": left, "kept": kept, "parent": counted(client, images[0])}


def regions() -> set[str]:
    """Files of the shared memory that this process sees."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "/dev/shm/repo-client-held-" in line and "(deleted)" not in line}


def iterating(client: Client, images: list[bytes]) -> Said:
    results = client.classify_many(images * 50, concurrency=2, batch_size=1)
    next(results)

    def go_on() -> Said:
        try:
            next(results)
        except Forked as error:
            return {"refused": str(error)}
        return {}

    children = in_children([go_on, lambda: counted(client, images[1])])
    return {"children": children, "rest": Counter(result.predictions[0].label for result in results)}


def generations(client: Client, images: list[bytes]) -> Said:
    """A child that forks as well."""

    def child() -> Said:
        own = counted(client, images[0], 2)
        return {**own, "children": in_children([lambda: counted(client, images[1], 2)])}

    return {"children": in_children([child]), "parent": counted(client, images[0])}


def unused(client: Client, images: list[bytes]) -> Said:
    """As gunicorn --preload: made before the fork, and first used by the workers."""
    return quiet(client, images)


def without_python(client: Client, images: list[bytes]) -> Said:
    def child() -> Said:
        sys.executable = "/nonexistent/python"
        return counted(client, images[1], 1)

    return {"children": in_children([child]), "parent": counted(client, images[0])}


def loops(url: str, settings: Said, images: list[bytes]) -> Said:
    client = AsyncClient(url, **settings)

    async def count(image: bytes, calls: int = CALLS) -> Said:
        return dict(Counter([(await client.classify(image))[0].label for _ in range(calls)]))

    def on_with_it() -> Said:
        """The rest of the parent's coroutine, in the child."""
        try:
            client.classify(images[0]).send(None)
        except Forked as error:
            return {"refused": str(error)}
        return {}

    async def fork() -> Said:
        first = await count(images[0])
        flying = [asyncio.create_task(count(images[0])) for _ in range(4)]
        await asyncio.sleep(0)
        works: Any = [lambda image=image: asyncio.run(count(image)) for image in images]
        children = in_children([on_with_it, *works])
        rest = [await task for task in flying]
        await client.close()
        return {"children": children, "parent": {**first, **{label: 1 for said in rest for label in said}}}

    return asyncio.run(fork())


def main(scenario: str, url: str, settings: Said, files: list[str]) -> None:
    images = [Path(file).read_bytes() for file in files]
    if scenario == "loops":
        print(json.dumps(loops(url, settings, images)))
        return
    with Client(url, **settings) as client:
        expected = [] if scenario == "unused" else [counted(client, image, 1) for image in images]
        said = globals()[scenario](client, images)
    print(json.dumps({"expected": expected, **said}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4:])

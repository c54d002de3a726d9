"""Runs a program over and over, and sends it signals at random moments: `python signalled.py PLAN.json`.

Each run is a fork of this process, which has imported what the program needs, in a folder of its own that begins as a
copy of the plan's `template`. What is printed is a line of JSON a run. A process that a run leaves behind becomes a
child of this one, and ends it with an error.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import random
import runpy
import shutil
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass
class Plan:
    program: str
    """MODULE:FUNCTION, or the path of a script."""
    arguments: list[str]
    """{run} is the run's folder, {port} a free port."""
    folder: str
    seed: int
    signals: int = 200
    """Sent in all."""
    most: int = 6
    """Of a run; there is at least one."""
    before: float = 1.0
    """Seconds in which the first comes, from the start or from when it is ready."""
    gap: float = 0.02
    """Mean seconds to the next one."""
    ready: str = "stdout"
    """File in the run's folder. Every other run gets no signal before something is in it."""
    at_once: int = 4
    deadline: float = 60.0
    """Seconds after the first signal."""
    template: str | None = None
    imports: list[str] = field(default_factory=list)


@dataclass
class Run:
    folder: str
    moments: list[float]
    """Of signals that are to come, in seconds from `begun`."""
    kinds: tuple[int, ...]
    ready: str
    """File that is waited for."""
    begun: float
    pid: int = 0
    sent: list[int] = field(default_factory=list)
    code: int | None = None
    late: bool = False
    seconds: float = 0.0
    """From the first signal to the end."""
    first: float = 0.0


def main() -> None:
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for name in plan.imports:
        importlib.import_module(name)
    gc.freeze()  # or each run's first collection would copy what it shares with this process
    chance, running, left, number = random.Random(plan.seed), [], plan.signals, 0
    while left > 0 or running:
        while left > 0 and len(running) < plan.at_once:
            run = begin(plan, chance, number, min(left, chance.randint(1, plan.most)))
            number, left = number + 1, left - len(run.moments)
            running.append(run)
        for run in running:
            tend(plan, chance, run)
        for run in [run for run in running if run.code is not None]:
            running.remove(run)
            left += len(run.moments)  # it had ended before they were sent
            print(json.dumps(asdict(run)), flush=True)
        time.sleep(0.001)
    leftovers()


def begin(plan: Plan, chance: random.Random, number: int, signals: int) -> Run:
    folder = Path(plan.folder) / str(number)
    shutil.copytree(plan.template, folder) if plan.template else folder.mkdir(parents=True)
    moment = chance.uniform(0, plan.before)
    moments = [moment]
    for _ in range(signals - 1):
        moment += chance.expovariate(1 / plan.gap)
        moments.append(moment)
    kinds = chance.choice([NUMBERS[:1], NUMBERS[1:], NUMBERS, NUMBERS])
    run = Run(str(folder), moments, kinds, plan.ready if number % 2 else "", time.monotonic())
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    run.pid = os.fork()
    if run.pid == 0:
        execute(plan, folder)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
    return run


def execute(plan: Plan, folder: Path) -> None:
    """In the fork."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    status = 70
    try:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        faulthandler.enable()  # tells where it was, should it have to be ended
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        values = {"{run}": str(folder), "{port}": str(free_port())}
        sys.argv = ["program", *(filled(argument, values) for argument in plan.arguments)]
        for kind in NUMBERS:
            signal.signal(kind, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        module, _, function = plan.program.partition(":")
        if function:
            getattr(importlib.import_module(module), function)()
        else:
            runpy.run_path(plan.program, run_name="__main__")
        status = 0
    finally:
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            import traceback

            traceback.print_exc()
        end(status)


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def end(status: int) -> None:
    """As the interpreter ends, but for this process's own frames, which the fork has, too."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def tend(plan: Plan, chance: random.Random, run: Run) -> None:
    pid, status = os.waitpid(run.pid, os.WNOHANG)
    now = time.monotonic()
    if pid:
        run.code, run.seconds = os.waitstatus_to_exitcode(status), now - run.first if run.sent else 0.0
        return
    if run.ready and has_content(Path(run.folder) / run.ready):
        run.ready, run.begun = "", now
    while not run.ready and run.moments and run.begun + run.moments[0] <= now:
        run.moments.pop(0)
        run.first = run.first or now
        run.sent.append(chance.choice(run.kinds))
        os.kill(run.pid, run.sent[-1])
    if now - (run.first or run.begun) > plan.deadline:
        run.late = True
        os.kill(run.pid, signal.SIGABRT)


def has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def leftovers() -> None:
    me, deadline = os.getpid(), time.monotonic() + 20
    while children := Path(f"/proc/{me}/task/{me}/children").read_text().split():
        with_names = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue
        if time.monotonic() > deadline:
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            sys.exit(f"left behind: {with_names}")
        time.sleep(0.02)


def load(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()

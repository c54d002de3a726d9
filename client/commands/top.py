"""repo-client top"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands.options import Connection, Json, connects
from client.commands.output import print_error, print_json
from client.errors import Cancelled, DeadlineExceeded, ModelNotFound, ServerUnavailable

if TYPE_CHECKING:
    from client.monitoring.frames import Frame
    from client.monitoring.reading import Reader

Show = Callable[["Frame | None", str], None]
MetricsUrl = Annotated[
    str | None,
    typer.Option(help="Triton's metrics, or `none`. Default: port 8002 of the same host.", show_default=False),
]


@connects
def top(
    connection: Connection,
    interval: Annotated[float, typer.Option(help="Seconds between readings.", min=0.05)] = 1.0,
    count: Annotated[int | None, typer.Option(help="End after as many intervals.", min=1)] = None,
    once: Annotated[bool, typer.Option("--once", help="Measure one interval, and end.")] = False,
    model: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Also the models that ensembles are made of.")] = False,
    metrics_url: MetricsUrl = None,
    csv: Annotated[Path | None, typer.Option(help="Append a row a model and interval.", metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Watch the server: rates, times, batches, and the machine. `q` leaves."""
    from client.monitoring.log import CsvLog
    from client.monitoring.reading import Reader

    count = 1 if once else count
    with contextlib.ExitStack() as stack:
        log = CsvLog(csv) if csv else None
        if log:
            stack.callback(log.close)
        client = stack.enter_context(connection.client())
        reader = Reader(client, metrics_url, model, steps)
        stack.callback(reader.close)
        show = stack.enter_context(_shower(connection.url, as_json, once))
        with contextlib.suppress(Cancelled):  # by Ctrl-C or SIGTERM
            for frame, trouble in _frames(reader, interval, count, patient=not once):
                show(frame, trouble)
                if log and frame:
                    log.add(_now(), frame)


def _frames(reader: Reader, interval: float, count: int | None, patient: bool) -> Iterator[tuple[Frame | None, str]]:
    """Frames, or why there is none; with patience, the server may go and come back."""
    from client.monitoring import keys

    with keys.unbuffered():
        taken = 0
        for number in itertools.count():
            try:
                frame, trouble = reader.frame(), ""
            except (ServerUnavailable, DeadlineExceeded, ModelNotFound) as error:  # a model may go and come, too
                if not patient or number == 0:
                    raise
                frame, trouble = None, str(error)
            yield frame, trouble
            taken += frame is not None
            if (count is not None and taken >= count) or keys.wait(interval):
                return


@contextlib.contextmanager
def _shower(url: str, as_json: bool, once: bool) -> Iterator[Show]:
    if as_json:
        yield _show_json
    elif once or not sys.stdout.isatty():
        yield _show_plain
    else:
        from rich.live import Live

        from client.monitoring.view import render

        with Live(render(url, None), screen=True, auto_refresh=False) as live:
            yield lambda frame, trouble: live.update(render(url, frame, trouble), refresh=True)


def _show_json(frame: Frame | None, trouble: str) -> None:
    if frame:
        print_json({"time": _now(), **dataclasses.asdict(frame)})
    elif trouble:
        print_json({"time": _now(), "error": trouble})


def _show_plain(frame: Frame | None, trouble: str) -> None:
    from client.monitoring.view import machine_line, plain_lines

    if trouble:
        print_error(trouble)
    elif frame:
        for line in (machine_line(frame), *plain_lines(frame)):
            print(f"{_now()}  {line}", flush=True)


def _now() -> Any:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

"""repo-client scan-log"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import signals
from client.commands.options import Connection, Json, Model, connects
from client.commands.output import print_error, print_json
from client.errors import Cancelled, InvalidInput, InvalidOption, UnreadableFile
from client.shown import cell, printable, url_path

if TYPE_CHECKING:
    from client.access_log.report import Picture, Report

MIB = 1024 * 1024
SHOWN = 20
# Of the table of paths, on a terminal; CSV and JSON have all.
UNSHOWN = ("class", "first", "last")
Logs = Annotated[
    list[str],
    typer.Argument(
        help="Access logs, plain or compressed; - is the standard input.", metavar="LOG...", show_default=False
    ),
]
Hosts = Annotated[
    list[str] | None, typer.Option(help="Another HOST[:PORT] that may be asked. Repeatable.", show_default=False)
]
Methods = Annotated[str, typer.Option(help="Such as PUT,POST: only these. Default: all.", show_default=False)]
Csv = Annotated[
    str | None,
    typer.Option(help="Print CSV: `paths`, `classes` or `clients`.", metavar="TABLE", show_default=False),
]


@connects
def scan_log(
    logs: Logs,
    connection: Connection,
    root: Annotated[Path | None, typer.Option(help="Folder that the site's / is.", metavar="DIR")] = None,
    base_url: Annotated[str | None, typer.Option(help="URL that the site's / is.", metavar="URL")] = None,
    allow_host: Hosts = None,
    model: Model = None,
    method: Methods = "",
    prefix: Annotated[str, typer.Option(help="Only paths that begin so, such as /uploads/.")] = "/",
    max_bytes: Annotated[int, typer.Option(help="Largest image read.", min=1)] = 20 * MIB,
    fetch_timeout: Annotated[float, typer.Option(help="Seconds that an image may take by URL.", min=0.001)] = 10.0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, also when rotated.")] = False,
    csv: Csv = None,
    as_json: Json = False,
) -> None:
    """Find the images in an access log, classify them, and report per class, client and path.

    The exit code is 7 where a log could not be read to its end, 6 where lines could not be understood; what could is
    reported all the same.
    """
    from client.access_log import fetching, reading
    from client.access_log.report import Report
    from client.access_log.run import all_lines, scan
    from client.access_log.selecting import Selection

    if (root is None) == (base_url is None):
        raise InvalidOption("give --root DIR or --base-url URL, where the images are")
    if csv not in (None, "paths", "classes", "clients"):
        raise typer.BadParameter("it is paths, classes or clients", param_hint="--csv")
    if follow and len(logs) > 1:
        raise InvalidOption("one log at a time can be followed")
    store: Any = fetching.Folder(root, max_bytes) if root else None
    store = store or fetching.Site(base_url or "", allow_host or (), max_bytes, fetch_timeout)
    selection = Selection(frozenset(word.strip().upper() for word in method.split(",") if word.strip()), prefix)
    stop, report = signals.of_process(), Report()
    lines: Iterator[str | None]
    lines = (
        reading.followed(logs[0], stop) if follow else stop.until(all_lines(logs, reading.lines, report, print_error))
    )
    # Followed until a signal comes, with what was read asked about and the report given then.
    with contextlib.suppress(*((Cancelled,) if follow else ())), connection.client(patient=follow) as client:
        name = client.classifier(model).name
        scan(lines, selection, store, client, name, report, _announcing(follow, as_json))
    _print(report, csv, as_json)
    if not follow and (report.unread or report.malformed):
        raise typer.Exit(UnreadableFile.exit_code if report.unread else InvalidInput.exit_code)


def _announcing(follow: bool, as_json: bool) -> Callable[[Picture], None]:
    def announce(picture: Picture) -> None:
        if not follow:
            return
        client = next(iter(picture.clients))
        if as_json:
            best = picture.predictions[0].label if picture.predictions else None
            print_json({"path": picture.name, "client": client, "label": best, "error": picture.error})
        else:
            print(printable(f"{client} {url_path(picture.name)}: {picture.error or picture.label}"), flush=True)

    return announce


def _print(report: Report, csv: str | None, as_json: bool) -> None:
    tables = {"classes": report.by_class, "clients": report.by_client, "paths": report.by_path}
    if as_json:
        print_json(report.as_record())
    elif csv:
        _print_csv(tables[csv]())
    else:
        for title, table in tables.items():
            _print_table(title, table())
    unreadable = sum(bool(picture.error) for picture in report.pictures.values())
    if report.malformed or unreadable:
        print_error(
            f"{report.malformed} of {report.lines} lines could not be understood, "
            f"{unreadable} of {len(report.pictures)} images could not be classified"
        )


def _print_csv(rows: list[dict[str, Any]]) -> None:
    import csv

    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _safe_cell(key, value) for key, value in row.items()} for row in rows)


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    more = f", the first {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""
    table = Table(title=f"{title}{more}", title_justify="left", box=None, pad_edge=False)
    names = [name for name in rows[0] if name not in UNSHOWN]
    for name in names:
        wide = name in ("path", "label", "labels", "error", "client")
        table.add_column(name, justify="left" if wide else "right", overflow="fold", no_wrap=not wide)
    for row in rows[:SHOWN]:
        table.add_row(*(Text(_shown(name, row[name])) for name in names))
    Console().print(table, "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _shown(name: str, value: Any) -> str:
    """On one line, and without what a hostile log could drive a terminal with."""
    return printable(url_path(value) if name == "path" else _cell(value))


def _safe_cell(name: str, value: Any) -> str:
    """CSV goes to terminals as well as to spreadsheets."""
    return cell(_shown(name, value))

"""repo-client: its commands, and what becomes of their errors."""

from __future__ import annotations

import sys

import typer

from client import signals
from client.commands.classify import classify
from client.commands.detect import detect
from client.commands.gateway import gateway
from client.commands.infer import infer
from client.commands.models import models
from client.commands.moderate import moderate
from client.commands.output import print_error
from client.commands.scan_log import scan_log
from client.commands.segment import segment
from client.commands.top import top
from client.errors import Cancelled, ClientError

app = typer.Typer(
    name="repo-client",
    help="Ask a Triton server: image classifiers, and any other models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(models)
app.command()(classify)
app.command()(detect)
app.command()(segment)
app.command()(infer)
app.command()(gateway)
app.command()(moderate)
app.command("scan-log")(scan_log)
app.command()(top)


def main() -> None:
    stop = signals.of_process()
    stop.listen()
    for stream in (sys.stdout, sys.stderr):  # file names that are not UTF-8 are printed as the bytes that they are
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        app()
    except ClientError as error:
        if stop.number and isinstance(error, Cancelled):
            sys.exit(128 + stop.number)
        print_error(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

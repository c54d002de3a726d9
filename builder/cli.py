"""build-repo: parse -> call -> print -> exit code."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from builder.commands.build import build
from builder.commands.check import check
from builder.commands.compare import compare
from builder.commands.deploy import deploy
from builder.commands.describe import describe
from builder.commands.history import history
from builder.commands.image import image
from builder.commands.merge import merge
from builder.commands.networks import networks
from builder.commands.output import say
from builder.commands.plan import plan
from builder.commands.prune import prune
from builder.commands.pull import pull
from builder.commands.push import push
from builder.commands.rollback import rollback
from builder.commands.rollout import rollout
from builder.commands.schema import schema
from builder.commands.serve import ServeCommand, serve
from builder.commands.status import status
from builder.commands.stop import stop
from builder.commands.train import TrainCommand, train
from builder.errors import BuilderError, NoSpace, is_full
from builder.machine import cores, signals

DEFAULT_COMMAND = "build"
OWN_OPTIONS = ("--help", "--version")


class BuildByDefault(TyperGroup):
    """`build-repo`, `build-repo -m FILE` and `build-repo alexnet` mean `build-repo build ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in OWN_OPTIONS):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="build-repo",
    cls=BuildByDefault,
    help="Build, verify, publish and serve Triton model repositories.\n\nWithout a command: build.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        from builder import __version__

        print(f"build-repo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    del version  # its callback has printed it


app.command()(build)
app.command()(plan)
app.command()(check)
app.command()(status)
app.command(cls=TrainCommand)(train)
app.command()(networks)
app.command()(describe)
app.command()(compare)
app.command(cls=ServeCommand)(serve)
app.command()(stop)
app.command()(history)
app.command()(rollback)
app.command()(prune)
app.command()(rollout)
app.command()(image)
app.command()(merge)
app.command()(push)
app.command()(pull)
app.command()(schema)
app.add_typer(deploy)


def main() -> None:
    try:
        signals.listen()
        cores.spin_briefly()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names of files may be in any encoding
        _run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signals.hold()


def _run() -> None:
    try:
        try:
            app()
        finally:
            _flush()
    except BuilderError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        # A C extension that is being imported makes an error of its own of what interrupts it.
        if number := signals.came():
            sys.exit(128 + number)
        if not is_full(error):
            raise
        say(f"there is no room left on the disk: {error}; make some, and run this again")
        sys.exit(NoSpace.exit_code)


def _flush() -> None:
    """What is printed. Raises OSError where there is no room for it; a reader that is gone is none of its."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Or the interpreter tries once more when it ends, with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if is_full(error):
            raise


if __name__ == "__main__":
    main()

"""repo-client infer"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.options import Connection, Json, connects
from client.commands.output import print_json, print_table
from client.shown import printable

ModelName = Annotated[str, typer.Argument(help="Model to ask, of any task.", metavar="MODEL", show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        help="NAME=FILE.npy; for text NAME=FILE.txt (an element a line) or NAME=@FILE (its bytes, as one element); "
        "FILE.npz has all by name; - is the standard input. Repeatable.",
        metavar="NAME=FILE",
        show_default=False,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Output to ask for. Repeatable. Default: all.", metavar="NAME", show_default=False),
]
Split = Annotated[
    bool, typer.Option("--split", help="Ask for more rows than the model's largest batch in several requests.")
]
Folder = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write NAME.npy for each output.", metavar="DIR", show_default=False),
]
Archive = Annotated[
    Path | None, typer.Option(help="Write all outputs into one file.", metavar="FILE", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]


@connects
def infer(
    model: ModelName,
    connection: Connection,
    inputs: Inputs = None,
    only: Only = None,
    split: Split = False,
    output: Folder = None,
    npz: Archive = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Ask any model for named arrays: what comes back is shown, or written as .npy or .npz.

    What does not fit the model's inputs is refused before anything is sent, and no number is rounded unasked. Files
    appear when they are complete: all of them, or none.
    """
    from client.tasks.tensors import Request, columns
    from client.tensor_files.reading import read, shaped
    from client.tensor_files.writing import refuse_existing

    if output and npz:
        raise typer.BadParameter("give one of --output and --npz")
    values = read(inputs or ())
    with connection.client() as client:
        info = client.model(model)
        request = Request(shaped(info, values), only, split)
        if not force:
            refuse_existing(_places(only or [one.name for one in info.outputs], output, npz))
        answer = client.infer(model, request.inputs, request.outputs, request.split)
    written = _write(answer, output, npz, force)
    shown = columns(info, request)
    if as_json:
        print_json({"model": model, **shown.record(answer), "files": written})
    elif not written:
        print_table(shown.names, [[printable(str(cell)) for cell in row] for row in shown.rows(answer)])


def _places(names: list[str], output: Path | None, npz: Path | None) -> list[Path]:
    from client.tensor_files.writing import file_name

    return [output / file_name(name) for name in names if output] + ([npz] if npz else [])


def _write(answer: dict[str, Any], output: Path | None, npz: Path | None, force: bool) -> list[str]:
    from client.tensor_files.writing import write_folder, write_npz

    if npz:
        write_npz(npz, answer, force)
        return [str(npz)]
    return [str(path) for path in write_folder(output, answer, force)] if output else []

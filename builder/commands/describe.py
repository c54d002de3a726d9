"""build-repo describe"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.options import Json
from builder.commands.output import print_json, print_table

if TYPE_CHECKING:
    from builder.networks.describe import Shape

LONGEST = 60


def describe(
    network: Annotated[str, typer.Argument(help="As in `build-repo networks`, or path/file.py:callable.")],
    input: Annotated[
        str | None, typer.Option(help="CHANNELSxHEIGHTxWIDTH. Default: the network's own.", metavar="SHAPE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a network layer by layer: output shapes, parameters, multiply-adds."""
    from builder.networks import describe as describing

    found = describing.describe(network, describing.parse_shape(input) if input else None)
    if as_json:
        print_json(asdict(found))
        return
    columns = ("LAYER", "MODULE", "INPUT", "OUTPUT", "PARAMETERS", "MULTIPLY-ADDS")
    rows = [
        (x.name, _short(x.kind), _text(x.input), _text(x.output), f"{x.parameters:,}", f"{x.multiply_adds:,}")
        for x in found.layers
    ]
    total = ("total", network, _text(found.input), "", f"{found.parameters:,}", f"{found.multiply_adds:,}")
    print_table(columns, [*rows, total], numbers=(4, 5))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "-"

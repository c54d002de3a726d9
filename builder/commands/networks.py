"""build-repo networks"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.options import Json
from builder.commands.output import print_json, print_table

if TYPE_CHECKING:
    from builder.types import NetworkFacts

COLUMNS = (
    *("NETWORK", "FAMILY", "YEAR", "LAYERS", "PARAMETERS", "TOP-1 %", "TOP-5 ERROR %", "BOX MAP %", "MIOU %", "GFLOPS"),
    *("DATASET", "TASK"),
)


def networks(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Names that fit it, as a shell takes it. Networks of other packages are listed for a pattern alone, "
            "such as 'timm/resnet*', or 'timm/resnet50.*' for the tags of weights."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks that a manifest can name."""
    from builder.networks import SOURCES
    from builder.networks.facts import facts_of

    print_facts(facts_of(pattern), as_json)
    if pattern is None and not as_json:
        print(
            "\nand " + "; ".join(f"{source.HINT}: `build-repo networks '{name}/*'`" for name, source in SOURCES.items())
        )


def print_facts(facts: list[NetworkFacts], as_json: bool) -> None:
    if as_json:
        print_json([asdict(fact) for fact in facts])
        return
    told = any(fact.licence for fact in facts)
    rows = [(*_row(fact), fact.licence) if told else _row(fact) for fact in facts]
    print_table((*COLUMNS, "LICENCE") if told else COLUMNS, rows, numbers=range(2, 10))


def _row(f: NetworkFacts) -> tuple[object, ...]:
    parameters = None if f.parameters is None else f"{f.parameters:,}"
    counted = (f.name, f.family, f.year, f.layers, parameters)
    return (*counted, f.top1, f.top5_error, f.box_map, f.miou, f.gflops, f.dataset, f.task)

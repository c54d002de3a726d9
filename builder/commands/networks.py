"""build-repo networks"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.commands.options import Json
from builder.commands.output import print_json, print_table

if TYPE_CHECKING:
    from builder.types import NetworkFacts

COLUMNS = (
    *("NETWORK", "FAMILY", "YEAR", "LAYERS", "PARAMETERS", "TOP-1 %", "TOP-5 ERROR %", "BOX MAP %", "MIOU %", "GFLOPS"),
    *("DATASET", "TASK"),
)


def networks(as_json: Json = False) -> None:
    """List the networks that a manifest can name."""
    from builder.networks import NETWORKS

    print_facts([family.facts(name) for family in NETWORKS.values() for name in family.names()], as_json)


def print_facts(facts: list[NetworkFacts], as_json: bool) -> None:
    if as_json:
        print_json([asdict(fact) for fact in facts])
        return
    print_table(COLUMNS, list(map(_row, facts)), numbers=range(2, 10))


def _row(f: NetworkFacts) -> tuple[object, ...]:
    counted = (f.name, f.family, f.year, f.layers, f"{f.parameters:,}")
    return (*counted, f.top1, f.top5_error, f.box_map, f.miou, f.gflops, f.dataset, f.task)

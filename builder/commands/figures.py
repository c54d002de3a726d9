"""What the proof of any task says, as columns of a table: those that a row of it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

Figures = Mapping[str, float]
"""A verification's, by their names."""


class Column(NamedTuple):
    title: str
    figure: str
    form: str
    network: str = ""
    """The network's own, where the figure is one of both."""


AGREEMENT = (
    Column("TOP-1", "top1_agreement", ".2%"),
    Column("TOP-5", "top5_agreement", ".2%"),
    Column("FOUND", "found_agreement", ".2%"),
    Column("BOX ERROR", "box_error", ".2g"),
    Column("PIXELS", "pixel_agreement", ".3%"),
    Column("IOU", "iou_agreement", ".4f"),
    Column("COSINE", "cosine", ".6f"),
    Column("NEIGHBOURS", "neighbour_agreement", ".2%"),
)
"""How far an artifact answers as its network does."""
QUALITY = (
    Column("ACCURACY", "artifact_accuracy", ".2%", "network_accuracy"),
    Column("MAP", "artifact_map", ".4f", "network_map"),
    Column("MIOU", "artifact_miou", ".4f", "network_miou"),
)
"""How often it is right, where that is known of the samples."""


def columns(rows: Sequence[Figures], wanted: Sequence[Column]) -> tuple[Column, ...]:
    """Those of the wanted that any of the rows has."""
    return tuple(column for column in wanted if any(row.get(column.figure) is not None for row in rows))


def told(row: Figures, column: Column) -> str | None:
    """As it is printed; None: this row has none."""
    value = row.get(column.figure)
    return None if value is None else format(value, column.form)


def own(row: Figures, column: Column) -> str | None:
    """The network's."""
    value = row.get(column.network)
    return None if value is None else format(value, column.form)

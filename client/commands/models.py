"""repo-client models"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import asdict
from typing import Any

from client.commands.options import Connection, Json, connects
from client.commands.output import print_json, print_table
from client.shown import printable
from client.types import ModelInfo, TensorInfo


@connects
def models(connection: Connection, as_json: Json = False) -> None:
    """Show what is being served."""
    with connection.client() as client:
        found = client.models()
    if as_json:
        print_json(list(map(_record, found)))
        return
    print_table(
        ("MODEL", "VERSIONS", "TASK", "PLATFORM", "MAX BATCH", "INPUTS", "OUTPUTS"),
        [tuple(map(printable, _cells(model))) for model in found],
    )


def _record(model: ModelInfo) -> dict[str, Any]:
    """Without what its config notes of how it was built."""
    return {name: value for name, value in asdict(model).items() if name != "parameters"}


def _cells(m: ModelInfo) -> tuple[str, ...]:
    inputs, outputs = _tensors(m.inputs, m.optional), _tensors(m.outputs)
    return m.name, ",".join(m.versions), m.task or "-", m.platform, str(m.max_batch_size), inputs, outputs


def _tensors(tensors: Iterable[TensorInfo], optional: Container[str] = ()) -> str:
    """Such as ids:INT64[-1,-1]; with ? behind it, it may be left out."""
    return " ".join(
        f"{t.name}:{t.datatype}[{','.join(map(str, t.shape))}]{'?' if t.name in optional else ''}" for t in tensors
    )

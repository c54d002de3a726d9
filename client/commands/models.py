"""repo-client models"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from client.commands.options import Connection, Json, connects
from client.commands.output import print_json, print_table


@connects
def models(connection: Connection, as_json: Json = False) -> None:
    """Show what is being served."""
    with connection.client() as client:
        found = client.models()
    if as_json:
        print_json([asdict(model) for model in found])
        return
    print_table(
        ("MODEL", "VERSIONS", "PLATFORM", "MAX BATCH", "INPUTS", "OUTPUTS"),
        [
            (m.name, ",".join(m.versions), m.platform, str(m.max_batch_size), _tensors(m.inputs), _tensors(m.outputs))
            for m in found
        ],
    )


def _tensors(tensors: Iterable[Any]) -> str:
    return " ".join(f"{t.name}:{t.datatype}[{','.join(map(str, t.shape))}]" for t in tensors)

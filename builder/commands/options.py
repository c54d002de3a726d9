"""What several commands take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def age(text: str) -> float:
    """Seconds of such as 30d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if not found:
        raise typer.BadParameter(f"{text!r} is no age; write a number and one of s, m, h, d and w, such as 30d")
    return float(found[1]) * UNITS[found[2]]


ManifestFile = Annotated[Path, typer.Option("--manifest", "-m", help="What to build.", metavar="FILE")]
Repository = Annotated[Path, typer.Option("--repository", "-r", help="Triton model repository.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Weights = Annotated[
    str | None, typer.Option(help="Weights for every entry, whatever it says, such as random.", metavar="SOURCE")
]
Port = Annotated[int, typer.Option(help="0: any free port.", min=0, max=65535)]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write the files to.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that were edited, or that others wrote.")]

UntilInputCloses = Annotated[
    bool, typer.Option("--until-input-closes", help="Stop when standard input closes.", hidden=True)
]
Linger = Annotated[
    float, typer.Option(help="Seconds to serve on after SIGTERM, for what is on its way.", min=0, max=300)
]
HttpHost = Annotated[
    str | None,
    typer.Option(help="Address of plain HTTP. Default: --host's, or loopback where that is safer.", metavar="HOST"),
]

# Of builds on a cluster.
RayAddress = Annotated[
    str, typer.Option(help="The cluster: HOST:PORT, or auto on one of its nodes.", metavar="ADDRESS")
]
Storage = Annotated[
    str | None,
    typer.Option(help="What tasks pass files through: a folder that all nodes share, or a URI.", metavar="DIR|URI"),
]
Accelerators = Annotated[
    list[str] | None,
    typer.Option(
        "--accelerator", help="GPU to build for, as Ray calls it. Default: all of the cluster.", metavar="GPU"
    ),
]
TaskCpus = Annotated[int, typer.Option(min=1, help="CPUs of each task.", metavar="N")]
Pack = Annotated[
    list[str] | None,
    typer.Option(
        help="What your own code opens beside what the entries name; relative to the manifest.", metavar="PATH"
    ),
]

# Of what may go.
OlderThan = Annotated[
    float | None,
    typer.Option(help="Only what was built before that: 30d, 12h, 2w.", parser=age, metavar="AGE", show_default=False),
]

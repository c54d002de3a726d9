"""What several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ManifestFile = Annotated[Path, typer.Option("--manifest", "-m", help="What to build.", metavar="FILE")]
Repository = Annotated[Path, typer.Option("--repository", "-r", help="Triton model repository.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Weights = Annotated[
    str | None, typer.Option(help="Weights for every entry, whatever it says, such as random.", metavar="SOURCE")
]
Port = Annotated[int, typer.Option(help="0: any free port.", min=0, max=65535)]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write the files to.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that were edited, or that others wrote.")]

Image = Annotated[
    str | None, typer.Option(help="docker: what serves. Default: NVIDIA's that fits the repository.", metavar="IMAGE")
]
ContainerName = Annotated[str | None, typer.Option("--name", help="docker: of the container.", metavar="NAME")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="docker: return when it is ready; see build-repo stop.")]
Memory = Annotated[str | None, typer.Option(help="docker: at most, such as 4g.", metavar="SIZE")]
Cpus = Annotated[float | None, typer.Option(help="docker: at most.", min=0.01)]
UntilInputCloses = Annotated[
    bool, typer.Option("--until-input-closes", help="Stop when standard input closes.", hidden=True)
]
HttpHost = Annotated[
    str | None,
    typer.Option(help="Address of plain HTTP beside TLS, in a network of its own.", hidden=True),
]

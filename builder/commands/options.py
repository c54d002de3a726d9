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

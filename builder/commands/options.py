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

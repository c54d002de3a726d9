"""What the targets take. Each is declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Image = Annotated[str, typer.Option(help="What serves, with a tag or a digest.", metavar="IMAGE")]
Name = Annotated[str, typer.Option(help="Of the deployment.", metavar="NAME")]
AdminSecret = Annotated[
    str | None, typer.Option(help="Secret whose admin.key opens Triton's model control.", metavar="NAME")
]

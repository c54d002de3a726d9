"""build-repo schema"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from builder.errors import ManifestError


def schema(of: Annotated[str, typer.Argument(help="models or training.", metavar="[FILE]")] = "models") -> None:
    """Print the JSON Schema of models.yaml, or of the files of `build-repo train`, for editors."""
    from builder.schemas import SCHEMAS

    if of not in SCHEMAS:
        raise ManifestError(f"there is no schema of {of!r}; choose {', '.join(SCHEMAS)}")
    print(json.dumps(SCHEMAS[of](), indent=2))

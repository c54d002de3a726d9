"""build-repo schema"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from builder.errors import ManifestError

FILES = ("models", "training")


def schema(of: Annotated[str, typer.Argument(help="models or training.", metavar="[FILE]")] = "models") -> None:
    """Print the JSON Schema of models.yaml, or of the files of `build-repo train`, for editors."""
    from builder import manifest
    from builder.registries import manifest_choices, training_choices
    from builder.training import config

    if of not in FILES:
        raise ManifestError(f"there is no schema of {of!r}; choose {', '.join(FILES)}")
    found = manifest.json_schema(manifest_choices()) if of == "models" else config.json_schema(**training_choices())
    print(json.dumps(found, indent=2))

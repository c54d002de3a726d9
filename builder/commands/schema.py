"""build-repo schema"""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of models.yaml, for editors."""
    from builder.manifest import json_schema
    from builder.registries import manifest_choices

    print(json.dumps(json_schema(manifest_choices()), indent=2))

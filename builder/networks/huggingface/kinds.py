"""What a snapshot's network is for, told by the name of its class, which config.json has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import NetworkError
from builder.networks.huggingface.snapshot import CONFIG, Snapshot

CLASSIFICATION, DETECTION, SEGMENTATION, TEXT = "classification", "detection", "segmentation", "text"
ENCODER = "encoder"
HEADS = {
    "ForImageClassification": (CLASSIFICATION, "AutoModelForImageClassification"),
    "ForObjectDetection": (DETECTION, "AutoModelForObjectDetection"),
    "ForSemanticSegmentation": (SEGMENTATION, "AutoModelForSemanticSegmentation"),
    "ForSequenceClassification": (TEXT, "AutoModelForSequenceClassification"),
}
"""By the end of the class's name: the task, and transformers' class that makes any of them."""
ENCODERS = ("ForMaskedLM", "ForPreTraining", "ForMaskedLanguageModeling", "Model")
"""Ends of the names of networks that read texts, whose heads, if they have some, are left away."""
LABELS = "id2label"
SHOWN = 80
"""Characters of what is wrong."""
TRUST = "trust_remote_code"


@dataclass(frozen=True)
class Kind:
    task: str
    architecture: str
    auto: str
    """transformers' class that makes it."""
    is_encoder: bool = False
    """Whether it gives a vector a token, not scores."""


def kind_of(snapshot: Snapshot) -> Kind:
    """Raises NetworkError for what no task is there for."""
    config = snapshot.config
    architecture = _architecture(config, snapshot)
    for end, (task, auto) in HEADS.items():
        if architecture.endswith(end):
            return Kind(task, architecture, auto)
    if architecture.endswith(ENCODERS):
        return Kind(TEXT, architecture, "AutoModel", is_encoder=True)
    raise NetworkError(
        f"{snapshot.name} is a {architecture}, which no task is there for; known are networks whose class ends in "
        f"{', '.join((*HEADS, *ENCODERS))}. A callable of your own can make any network: "
        "`network: path/file.py:callable`"
    )


def _architecture(config: Mapping[str, Any], snapshot: Snapshot) -> str:
    found = config.get("architectures")
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise NetworkError(
            f"{snapshot.folder / CONFIG} does not say which class the network is (`architectures`); write the snapshot "
            'with `model.save_pretrained(DIR)`, or add its name, such as "architectures": ["BertModel"]'
        )
    return str(found[0])


def require_counted(snapshot: Snapshot) -> None:
    """Raise NetworkError where the classes' names are not those of 0, 1, 2 and so on."""
    named = snapshot.config.get(LABELS)
    if named is None:
        return
    is_counted = isinstance(named, dict) and set(map(str, named)) == set(map(str, range(len(named))))
    if not is_counted or not all(isinstance(label, str) for label in named.values()):
        given = json.dumps(named)
        raise NetworkError(
            f"{snapshot.folder / CONFIG}: `{LABELS}` gives each class a name by its number, from 0 on without gaps, "
            f'such as {{"0": "cat", "1": "dog"}}, and not {given[:SHOWN]}{"..." * (len(given) > SHOWN)}; correct it'
        )


def require_trusted(snapshot: Snapshot, trusted: bool) -> None:
    """Raise NetworkError for a snapshot that brings code of its own, unless that is wanted."""
    code = snapshot.config.get("auto_map")
    if not code or trusted:
        return
    named = ", ".join(sorted({str(value) for value in code.values()})) if isinstance(code, dict) else str(code)
    raise NetworkError(
        f"{snapshot.name} brings code of its own ({named}), which would run here with all your rights. Read it, and if "
        f"you trust it, say so in the entry: `arguments: {{{TRUST}: true}}`, with a commit as the revision; or take a "
        "network that transformers has itself"
    )

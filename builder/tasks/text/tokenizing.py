"""The tokenizer of an entry, and the served step held to what else reads the same file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from builder.data.texts import Text
from builder.errors import VerificationError
from builder.steps.tokenizer import TokenizerSettings, settings_of, tokenizer
from builder.tasks.task import Entry
from builder.tasks.text.entries import Wanted, max_length, tokenizer_file
from builder.types import TextFacts

TOLD_BESIDE = "tokenizer_config.json"
SHOWN = 12
Encode = Callable[[str], "list[int]"]


def settings_for(
    entry: Entry, facts: TextFacts | None, wanted: Wanted, takes_types: bool
) -> tuple[TokenizerSettings, int]:
    """What the step is told, and the largest number that it gives. Raises ManifestError."""
    file = tokenizer_file(entry, facts)
    with entry.at("tokenizer" if entry.spec.tokenizer else "network"):
        settings, largest = settings_of(file, max_length(entry, facts), entry.spec.max_text_bytes)
    if wanted.pool == "cls" and settings.padding_side == "left":
        raise entry.error(
            f"{file.name} pads on the left, where the first token would be padding; use `pool: mean`", "pool"
        )
    return settings.model_copy(update={"takes_types": takes_types}), largest


def hold_step(entry: Entry, settings: TokenizerSettings, texts: Sequence[Text]) -> str:
    """Hold the served step to transformers, where the file's folder tells of a class of its, or to tokenizers.

    What it was held to. Raises VerificationError.
    """
    what, encode = _of_transformers(settings) or ("tokenizers", _of_tokenizers(settings))
    served = tokenizer(settings)
    for text in texts:
        ours, theirs = served(text.data)[0].tolist(), encode(text.text)
        if ours != (theirs or [settings.pad_id]):
            raise VerificationError(
                f"{entry.name}: {settings.file.name} does not give the tokens that {what} gives for {text.name}: "
                f"{_shown(ours)} and {_shown(theirs)}. The network was trained with the latter; save the tokenizer "
                "anew, with tokenizer.save_pretrained(), and name that file by `tokenizer:`"
            )
    return what


def _shown(numbers: Sequence[int]) -> str:
    return f"[{', '.join(map(str, numbers[:SHOWN]))}{', ...' if len(numbers) > SHOWN else ''}]"


def _of_tokenizers(settings: TokenizerSettings) -> Encode:
    import tokenizers

    read = tokenizers.Tokenizer.from_file(str(settings.file))
    read.no_padding()
    read.no_truncation()
    read.enable_truncation(settings.max_length, direction=settings.truncation_side)
    return lambda text: list(read.encode(text).ids)


def _of_transformers(settings: TokenizerSettings) -> tuple[str, Encode] | None:
    """Only a class of transformers' own: no code of the folder's is run."""
    named = _class_beside(settings.file)
    if not named:
        return None
    try:
        from transformers import AutoTokenizer

        read: Any = AutoTokenizer.from_pretrained(
            str(settings.file.parent), local_files_only=True, trust_remote_code=False
        )
    except Exception:  # without it, or with files that it lacks, tokenizers alone tells
        return None
    side = settings.truncation_side

    def encode(text: str) -> list[int]:
        read.truncation_side = side
        return list(read(text, truncation=True, max_length=settings.max_length)["input_ids"])

    return f"transformers' {type(read).__name__}", encode


def _class_beside(file: Path) -> str:
    try:
        said = json.loads(file.with_name(TOLD_BESIDE).read_text("utf-8"))
        return str(said.get("tokenizer_class") or "")
    except (OSError, ValueError, AttributeError):
        return ""

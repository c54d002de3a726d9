"""Texts to token numbers, by a tokenizer.json: those of the tokenizers library, cut and padded as a recipe says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from builder.errors import ManifestError
from builder.triton.signature import ANY_SIZE, TEXT_INPUT, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from builder.runtimes.tokenizer.model import Tokenizer

    Array = np.ndarray[Any, np.dtype[np.int64]]

ROLE = "preprocess"
MODEL_FILE = Path(__file__).parent.parent / "runtimes" / "tokenizer" / "model.py"
PACKAGES: tuple[str, ...] = ("tokenizers",)
FILE = "tokenizer.json"
"""What is published beside the step's model.py."""
IDS_OUTPUT, MASK_OUTPUT, TYPES_OUTPUT = "INPUT_IDS", "ATTENTION_MASK", "TOKEN_TYPE_IDS"
Side = Literal["left", "right"]


class TokenizerSettings(BaseModel):
    """What the step is told of its network; `file` is no part of what is published of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(exclude=True)
    max_length: int
    """Tokens of a text, special ones included; the others are cut off."""
    pad_id: int = 0
    pad_type_id: int = 0
    padding_side: Side = "right"
    truncation_side: Side = "right"
    takes_types: bool = False
    """Whether the network is told the kinds of tokens."""
    max_text_bytes: int


def signature(settings: TokenizerSettings) -> Signature:
    names = (IDS_OUTPUT, MASK_OUTPUT, *((TYPES_OUTPUT,) if settings.takes_types else ()))
    rows = tuple(TensorSpec(name, "INT64", (ANY_SIZE,)) for name in names)
    return Signature((TensorSpec(TEXT_INPUT, "STRING", (1,)),), rows)


def function(settings: TokenizerSettings) -> Callable[[bytes], tuple[Array, ...]]:
    """A text in UTF-8 -> int64 [S] of each output. What it gives raises ValueError for what is no such text."""
    return tokenizer(settings)


def tokenizer(settings: TokenizerSettings) -> Tokenizer:
    """The same, for several texts at once as well."""
    from builder.runtimes.tokenizer import model

    return model.Tokenizer(json.loads(settings.model_dump_json()), settings.file)


def files(settings: TokenizerSettings) -> dict[str, Path]:
    """By name, what is published beside its model.py."""
    return {FILE: settings.file}


def settings_of(file: Path, max_length: int | None, max_text_bytes: int) -> tuple[TokenizerSettings, int]:
    """What a tokenizer.json says of padding and cutting, and the largest number that it gives.

    Without a `max_length`, the file's own counts. Raises ManifestError.
    """
    read = _read(file)
    padding, truncation = read.padding or {}, read.truncation or {}
    most = max_length or truncation.get("max_length")
    if not most:
        raise ManifestError(
            f"nothing tells how many tokens the network takes; give `max_length:`, such as 512 ({file.name} has no "
            "truncation of its own)"
        )
    if most <= (special := read.num_special_tokens_to_add(False)):
        raise ManifestError(f"max_length is {most}, and {special} of them are special tokens, so that no text remains")
    return TokenizerSettings(
        file=file,
        max_length=most,
        pad_id=_pad_id(file, read, padding),
        pad_type_id=padding.get("pad_type_id", 0),
        padding_side=str(padding.get("direction", "right")).lower(),
        truncation_side=str(truncation.get("direction", "right")).lower(),
        max_text_bytes=max_text_bytes,
    ), max(read.get_vocab(True).values(), default=0)


def _read(file: Path) -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ManifestError("tokenizers is not installed; run: pip install 'triton-build-repo[text]'") from None
    if not file.is_file():
        raise ManifestError(f"{file} is {'a folder' if file.is_dir() else 'not there'}; it is to be a tokenizer.json")
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except BaseException as error:  # the library's panics are no Exceptions
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ManifestError(
            f"{file} is no tokenizer that the tokenizers library reads: {error}; save it with "
            "tokenizer.save_pretrained() of transformers, or Tokenizer.save()"
        ) from None


PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<PAD>", "[pad]")


def _pad_id(file: Path, read: Any, padding: dict[str, Any]) -> int:
    """The file's own, or its padding token's, or 0: what is masked counts nowhere."""
    if padding:
        return int(padding["pad_id"])
    named = _said_beside(file)
    found = (read.token_to_id(token) for token in (*((named,) if named else ()), *PAD_TOKENS))
    return int(next((number for number in found if number is not None), 0))


def _said_beside(file: Path) -> str:
    """The padding token that transformers' own file tells, beside the tokenizer."""
    try:
        said = json.loads(file.with_name("tokenizer_config.json").read_text("utf-8")).get("pad_token")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(said.get("content", "") if isinstance(said, dict) else said or "")

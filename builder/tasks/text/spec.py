"""The keys of an entry whose network reads texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictInt

from builder.data.sets import UserText
from builder.tasks.classification.limits import Tolerance as OfClasses
from builder.tasks.embedding.limits import Tolerance as OfVectors
from builder.tasks.labelled import Labelled
from builder.tasks.spec import Keys

FILES = ("tokenizer", "texts", "calibration")
MAX_TEXT_BYTES = 1 << 20
LEAST_LENGTH = 4
"""Tokens: a beginning, an end, and what stands between."""


class Tolerance(OfVectors, OfClasses):
    """How much an artifact's vectors, or probabilities, may differ. What is left out has the precision's default."""


class TextSpec(Labelled):
    """An entry of `task: text`: `{task: text, network: encoder.py:encoder, tokenizer: tokenizer.json, pool: mean}`."""

    tokenizer: UserText | None = Field(
        None, description="A tokenizer.json, as the tokenizers library reads it. Default: that beside the weights."
    )
    max_length: StrictInt | None = Field(
        None,
        ge=LEAST_LENGTH,
        le=1 << 20,
        description="Tokens of a text that the network sees, special ones included; the others are cut off. Default: "
        "what the weights or the tokenizer say.",
    )
    pool: Literal["mean", "cls", "none"] | None = Field(
        None,
        description="How the vectors of a text's tokens become one. mean: their mean. cls: the first one. none: the "
        "network itself gives one vector a text. Default: as the weights say.",
    )
    normalize: Literal["none", "l2"] | None = Field(
        None, description="l2: every vector has the length 1. Default: as the weights say, or none."
    )
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        None,
        description="The network classifies, and what makes probabilities of its scores. none: it gives them itself. "
        "Default: as the weights say; without either, it gives vectors.",
    )
    multilabel: StrictBool | None = Field(
        None,
        description="Of a classifier: whether several classes may be right at once. Default: with sigmoid alone.",
    )
    max_text_bytes: StrictInt = Field(
        MAX_TEXT_BYTES, ge=1, le=1 << 30, description="The largest text, in bytes of UTF-8, that the server takes."
    )
    texts: UserText | None = Field(
        None, description="Texts to verify with, one a line. Default: sentences that come with this tool."
    )
    calibration: UserText | None = Field(
        None,
        description="Texts that int8 is calibrated with, one a line: like those to come, but not those of `texts`.",
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )

    def files(self) -> dict[Keys, str]:
        named = {(key,): getattr(self, key) for key in FILES}
        return super().files() | {keys: value for keys, value in named.items() if value}

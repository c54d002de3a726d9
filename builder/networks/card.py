"""What a file of weights was trained for: a card beside it, JSON, read without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from builder.data.recipe import PreprocessRecipe
from builder.errors import WeightsError
from builder.util import hashing, texts
from builder.util.usercode import is_callable_name

SUFFIX = ".card.json"


class Card(BaseModel):
    """Written by `build-repo train`. Whatever serves the weights takes network, recipe and labels from here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    card: Literal[1] = 1
    """Version of this form."""
    weights: str
    """The file's name, in the card's folder."""
    sha256: str
    network: str
    """A name of `build-repo networks`, or one's own callable; its path is relative to the card's folder."""
    arguments: dict[str, Any]
    recipe: PreprocessRecipe
    labels: tuple[str, ...]
    data: dict[str, Any]
    training: dict[str, Any]
    """The configuration."""
    metrics: dict[str, Any]
    """What these weights reach on the held-out images."""
    software: dict[str, str]
    made_at: str


def card_path(weights: Path) -> Path:
    return weights.parent / f"{weights.stem}{SUFFIX}"


def read_card(weights: Path) -> Card | None:
    """The card beside the file, its own network's path made absolute; None if there is none. Raises WeightsError."""
    path = card_path(weights)
    try:
        card = Card.model_validate_json(texts.read(path))
    except FileNotFoundError:
        return None
    except texts.NotUtf8 as error:
        raise WeightsError(f"the card cannot be read: {error}") from None
    except OSError as error:
        raise WeightsError(f"the card {path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WeightsError(
            f"{path} is not a card of weights: {where} {first['msg']}; train again, or remove it"
        ) from None
    return card.model_copy(update={"network": absolute(card.network, path.parent)})


def require_own(card: Card, weights: Path) -> None:
    """Raise WeightsError if the card is of other weights."""
    digest = hashing.sha256(weights)
    if digest != card.sha256:
        raise WeightsError(
            f"{weights} is not what {card_path(weights).name} describes: its SHA-256 is {digest[:12]}..., the card's "
            f"{card.sha256[:12]}...; bring back the file that was trained, or remove the card and name network, "
            "preprocess and labels yourself"
        )


def absolute(network: str, base: Path) -> str:
    """A callable of a file by its whole path; any other name as it is."""
    place, _, attribute = network.rpartition(":")
    return f"{(base / place).resolve()}:{attribute}" if is_callable_name(network) and place.endswith(".py") else network


def relative(network: str, folder: Path) -> str:
    """As a card in `folder` gives it."""
    place, _, attribute = network.rpartition(":")
    if not (is_callable_name(network) and place.endswith(".py")):
        return network
    return f"{Path(os.path.relpath(place, folder.resolve())).as_posix()}:{attribute}"

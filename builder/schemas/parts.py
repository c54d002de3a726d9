"""What both schemas are made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from builder import networks

Schema = dict[str, Any]

# The newest that all editors know; pydantic writes a later one, of which `_for_editors` leaves nothing.
DIALECT = "http://json-schema.org/draft-07/schema#"
OWN_CALLABLE: Schema = {"pattern": "^(?!hf:).*:"}
SNAPSHOT: Schema = {"pattern": "^hf[:/]."}
"""Of transformers, in a folder or on the hub."""
GIVEN: Schema = {"not": {"type": "null"}}
SIDES: Schema = {"type": "array", "minItems": 2, "maxItems": 2}


def of_sources() -> list[Schema]:
    """What names of networks look like that other packages have."""
    return [{"pattern": source.PATTERN} for source in networks.SOURCES.values()]


def of_model(model: type[BaseModel], title: str) -> Schema:
    """pydantic's own schema of a file, with what both files' recipes must hold."""
    schema: Schema = _for_editors(model.model_json_schema())
    recipe = [*_numbers_a_channel(), _colours_in_order(), _one_way(), _between_the_nearest()]
    schema["$defs"]["RecipeOverrides"]["allOf"] = recipe
    schema["$defs"]["Letterbox"]["allOf"] = _both_or_none("shortest", "longest")
    return {"$schema": DIALECT, "title": title} | {key: value for key, value in schema.items() if key != "title"}


def _for_editors(node: Any) -> Any:
    """Lists in the older form, and no default that editors would write out although it says nothing."""
    if isinstance(node, list):
        return [_for_editors(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _for_editors(value) for key, value in node.items() if (key, value) not in SAYING_NOTHING}
    if "prefixItems" in kept:
        kept["items"], *others = kept.pop("prefixItems")
        assert all(other == kept["items"] for other in others)  # our lists are of one kind each
    return kept


SAYING_NOTHING: tuple[tuple[str, Any], ...] = (("default", None), ("default", ""), ("format", "path"))


def _numbers_a_channel() -> list[Schema]:
    """mean and std: none, or one a channel."""
    return [
        {"properties": {key: _counts(1, 3) for key in ("mean", "std")}},
        *(
            when(said("channels", {"const": count}), {"properties": {key: _counts(count) for key in ("mean", "std")}})
            for count in (1, 3)
        ),
    ]


def _colours_in_order() -> Schema:
    """Gray has no order."""
    return when(said("channels", {"const": 1}), {"not": said("channel_order", {"const": "bgr"})})


def _one_way() -> Schema:
    """A letterbox is in place of resize and crop."""
    return when(said("letterbox", GIVEN), {"not": {"anyOf": [said("resize", GIVEN), said("crop", GIVEN)]}})


def _between_the_nearest() -> Schema:
    """Without antialiasing there is one filter."""
    bilinear: Schema = {"properties": {"interpolation": {"const": "bilinear"}}}
    return when(said("antialias", {"const": False}), bilinear)


def _both_or_none(one: str, other: str) -> list[Schema]:
    return [when(said(key, GIVEN), said(beside, GIVEN)) for key, beside in ((one, other), (other, one))]


def _counts(*numbers: int) -> Schema:
    return {"anyOf": [{"maxItems": 0}, *({"minItems": number, "maxItems": number} for number in numbers)]}


def said(key: str, schema: Schema) -> Schema:
    """An object that has the key, with such a value."""
    return {"properties": {key: schema}, "required": [key]}


def when(condition: Schema, consequence: Schema) -> Schema:
    return {"if": condition, "then": consequence}


def whole_recipe() -> Schema:
    """An object whose `preprocess` needs nothing that weights would bring along."""
    size = {"anyOf": [said("crop", GIVEN), said("resize", SIDES), said("letterbox", GIVEN)]}
    return said("preprocess", {"allOf": [{"required": ["channels"]}, size]})

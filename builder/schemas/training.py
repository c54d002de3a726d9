"""The JSON Schema of the files of `build-repo train`."""

from __future__ import annotations

from builder import networks
from builder.schemas.parts import GIVEN, OWN_CALLABLE, Schema, of_model, of_sources, said, when, whole_recipe
from builder.training.datasets import own_names
from builder.training.spec import TrainingSpec

GROUPS = (("data", "Data"), ("optimizer", "Optimizer"), ("schedule", "Schedule"))
"""Keys whose first may stand for all, and what pydantic calls them."""


def schema() -> Schema:
    found = of_model(TrainingSpec, "build-repo train")
    groups = found["$defs"]
    found["properties"]["network"] |= {"anyOf": [{"enum": networks.all_names()}, *of_sources(), OWN_CALLABLE]}
    groups["Data"]["properties"]["set"] |= {"anyOf": [{"enum": own_names()}, OWN_CALLABLE]}
    groups["Schedule"]["allOf"] = [_onecycle()]
    for key, group in GROUPS:
        first = next(iter(groups[group]["properties"].values()))
        options = [{"$ref": f"#/$defs/{group}"}, first]
        found["properties"][key] = {"anyOf": options, "description": groups[group]["description"]}
    found["required"] = ["network"]
    found["allOf"] = [_unfreeze(), _warmup(), when(said("network", OWN_CALLABLE), whole_recipe())]
    return found


def _onecycle() -> Schema:
    return when(said("name", {"const": "onecycle"}), {"properties": {"warmup_epochs": {"maximum": 0}}})


def _unfreeze() -> Schema:
    return when(said("unfreeze", GIVEN), said("learn", {"not": {"const": "all"}}))


def _warmup() -> Schema:
    """Two numbers cannot be compared, but one with the other's default."""
    most = {"maximum": TrainingSpec.model_fields["epochs"].default}
    warm = {"properties": {"schedule": {"properties": {"warmup_epochs": most}}}}
    return when({"not": {"required": ["epochs"]}}, warm)

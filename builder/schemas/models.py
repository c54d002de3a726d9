"""The JSON Schema of models.yaml."""

from __future__ import annotations

from typing import get_args

from builder import networks
from builder.data import labels
from builder.exporters import EXPORTERS
from builder.manifest.models import DEFAULT_TASK, FILE_PATTERN, NAME_PATTERN, UnknownTask, manifest_file, spec_of
from builder.schemas.parts import GIVEN, OWN_CALLABLE, SNAPSHOT, Schema, of_model, of_sources, said, when, whole_recipe
from builder.tasks import TASKS
from builder.tasks.spec import ModelSpec

DEVICES: tuple[str, ...] = get_args(ModelSpec.model_fields["device"].annotation)
ENTRY = {"$ref": "#/$defs/Entry"}


def schema() -> Schema:
    found = of_model(manifest_file(), "models.yaml")
    specs = {name: found["$defs"][spec_of(name).__name__] for name in TASKS}
    for name, spec in specs.items():
        _complete(name, spec)
    found["$defs"] = {name: definition for name, definition in found["$defs"].items() if name != UnknownTask.__name__}
    found["$defs"]["Entry"] = _by_task()
    found["properties"]["models"] = _entries()
    return found


def _complete(task: str, spec: Schema) -> None:
    """What the registries know, and pydantic's model of the task does not."""
    properties = spec["properties"]
    properties["task"] |= {"const": task}
    properties["network"] |= {"anyOf": [{"enum": networks.all_names()}, *of_sources(), OWN_CALLABLE, SNAPSHOT]}
    properties["format"] |= {"enum": list(EXPORTERS)}
    properties["precision"] |= {"enum": precisions()}
    if "labels" in properties:
        properties["labels"]["anyOf"].insert(0, {"enum": list(labels.SETS)})  # or a file, or a list
    of_recipes = _of_networks("output" in properties) if "preprocess" in properties else []
    calibrated = [_calibrated()] if "calibration" in properties else []
    spec["allOf"] = [*_targets(), *calibrated, *_within_the_batch(), *_of_artifacts(), *of_recipes]
    if "multilabel" in properties:
        spec["allOf"].append(_one_class(properties["activation"].get("default") == "softmax"))
    if "pool" in properties:
        spec["allOf"].append(_vectors_or_classes())


def _of_artifacts() -> list[Schema]:
    """A file holds network and weights; only a file is held to something else."""
    beside: list[Schema] = [{"required": [key]} for key in ("network", "weights", "arguments")]
    return [
        when(said("artifact", GIVEN), {"not": {"anyOf": beside}}),
        when(said("reference", GIVEN), said("artifact", GIVEN)),
    ]


def _vectors_or_classes() -> Schema:
    """What classifies texts makes no vectors of them."""
    classifies: Schema = {"properties": {"activation": {"type": "string"}}, "required": ["activation"]}
    none: Schema = {"enum": ["none", None]}
    return when(classifies, {"properties": {"pool": none, "normalize": none}})


def _one_class(is_default: bool) -> Schema:
    """The softmax chooses one."""
    chooses: Schema = {"properties": {"activation": {"const": "softmax"}}}
    if not is_default:
        chooses["required"] = ["activation"]
    return when(chooses, {"properties": {"multilabel": {"enum": [False, None]}}})


def _by_task() -> Schema:
    """An entry is held to the keys of its task alone; editors tell then which key is wrong, not that nothing fits."""
    choices = [when(_has_task(name), {"$ref": f"#/$defs/{spec_of(name).__name__}"}) for name in TASKS]
    return {"title": "Entry", "type": "object", "properties": {"task": {"enum": list(TASKS)}}, "allOf": choices}


def _has_task(name: str) -> Schema:
    is_it: Schema = {"properties": {"task": {"const": name}}}
    return is_it if name == DEFAULT_TASK else is_it | {"required": ["task"]}


def precisions() -> list[str]:
    """All that some format has on some device."""
    known = (some for exporter in EXPORTERS.values() for some in exporter.PRECISIONS.values())
    return list(dict.fromkeys(precision for some in known for precision in some))


def _is(key: str, value: str) -> Schema:
    """An object with this value, which it has too where it leaves a key to its default."""
    is_default = ModelSpec.model_fields[key].default == value
    return {"properties": {key: {"const": value}}} if is_default else said(key, {"const": value})


def _targets() -> list[Schema]:
    """Which precisions a format has on a device."""
    return [
        when({"allOf": [_is("format", name), _is("device", device)]}, _possible(name, device))
        for name in EXPORTERS
        for device in DEVICES
    ]


def _possible(name: str, device: str) -> Schema:
    possible = EXPORTERS[name].PRECISIONS.get(device, ())
    if not possible:
        return said("format", {"enum": [other for other in EXPORTERS if EXPORTERS[other].PRECISIONS.get(device)]})
    choice: Schema = {"properties": {"precision": {"enum": list(possible)}}}
    return choice if ModelSpec.model_fields["precision"].default in possible else choice | {"required": ["precision"]}


def _calibrated() -> Schema:
    return when(said("precision", {"const": "int8"}), said("calibration", GIVEN))


def _within_the_batch() -> list[Schema]:
    """Two numbers cannot be compared, but one with the other's default."""
    most: Schema = {"maximum": ModelSpec.model_fields["max_batch_size"].default}
    unsaid: Schema = {"not": {"required": ["max_batch_size"]}}
    return [
        when(unsaid, {"properties": {name: {"properties": {key: most}}}})
        for name, exporter in EXPORTERS.items()
        for key in getattr(exporter.OPTIONS, "AT_MOST_THE_BATCH", ())
    ]


def _without_weights() -> list[str]:
    """Networks that nothing is published of."""
    families = [family for family in networks.NETWORKS.values() if family.DEFAULT_WEIGHTS is None]
    return [name for family in families for name in family.names()]


def _of_networks(has_output: bool) -> list[Schema]:
    """A callable without `output`, where the task has that key, is a torchvision detector, which knows its recipe."""
    own, bare = said("network", OWN_CALLABLE), said("network", {"enum": _without_weights()})
    alone = said("weights", {"type": "string", "not": {"pattern": FILE_PATTERN}})  # no card comes with them
    unknown = [own, alone, *([said("output", GIVEN)] if has_output else [])]
    return [when({"anyOf": [own, bare]}, said("weights", GIVEN)), when({"allOf": unknown}, whole_recipe())]


def _entries() -> Schema:
    """By their names, which are the networks' where an entry names none."""
    bare = _without_weights()
    by_name = [{"required": ["network"]}, said("artifact", GIVEN), said("weights", GIVEN)]
    return {
        "title": "Models",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME_PATTERN},
        "properties": {
            name: {"allOf": [ENTRY, {"anyOf": by_name}]} if name in bare else {"anyOf": [ENTRY, {"type": "null"}]}
            for name in networks.all_names()
        },
        "additionalProperties": {
            "allOf": [
                ENTRY,
                {
                    "anyOf": [
                        {"required": ["network"]},
                        said("artifact", GIVEN),
                        said("weights", {"type": "string", "pattern": FILE_PATTERN}),
                    ]
                },
            ],
        },
    }

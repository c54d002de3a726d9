"""What holds a Kubernetes document to its schema: Kubernetes' own, and those of the two operators.

KServe's fields and types are read from the models of its Python SDK, which are generated from its API. Those of
ServiceMonitor are written here, after the operator's reference: the fields that are used, and no others.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from jsonschema import Draft202012Validator
from tools import missing

OLDEST = "1.30"
SCHEMAS = resources.files("kubernetes_validate") / "kubernetes-json-schema"
VERSIONS = sorted(
    {
        match[1]
        for path in SCHEMAS.iterdir()
        if (match := re.match(r"v(1\.\d+)\.", path.name)) and int(match[1][2:]) >= int(OLDEST[2:])
    },
    key=lambda version: int(version[2:]),
)
NEWEST = VERSIONS[-1]
SDK = Path(__file__).parent.parent / ".venv" / "kserve" / "kserve" / "models"
SDK_ROOTS = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
PLAIN = {"str": str, "int": int, "bool": bool}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
SERVICE_MONITOR = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": LABELS},
        },
        "spec": {
            "type": "object",
            "required": ["endpoints", "selector"],
            "additionalProperties": False,
            "properties": {
                "podTargetLabels": {"type": "array", "items": {"type": "string"}},
                "selector": {
                    "type": "object",
                    "required": ["matchLabels"],
                    "additionalProperties": False,
                    "properties": {"matchLabels": LABELS},
                },
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string", "pattern": "^/"},
                            "interval": {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"},
                        },
                    },
                },
            },
        },
    },
}


def validate(document: dict[str, Any], version: str) -> None:
    """Raises jsonschema.ValidationError, or fails, unless the document is what its kind is in that version."""
    kind = document["kind"]
    if kind == "ServiceMonitor":
        jsonschema.validate(document, SERVICE_MONITOR)
    elif kind in SDK_ROOTS:
        assert document["apiVersion"].partition("/")[0] == "serving.kserve.io"
        _check(document, SDK_ROOTS[kind], version, kind)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def _check(value: Any, type_name: str, version: str, where: str) -> None:
    """Whether a value is what KServe's SDK declares a field of that type to be."""
    if match := re.fullmatch(r"list\[(.*)\]", type_name):
        assert isinstance(value, list), f"{where} is no list"
        for index, item in enumerate(value):
            _check(item, match[1], version, f"{where}[{index}]")
    elif match := re.fullmatch(r"dict\(str, (.*)\)", type_name):
        assert isinstance(value, dict), f"{where} is no mapping"
        for key, item in value.items():
            _check(item, match[1], version, f"{where}.{key}")
    elif type_name in PLAIN:
        assert type(value) is PLAIN[type_name], f"{where} is no {type_name}"
    elif fields := _fields(type_name):
        assert isinstance(value, dict), f"{where} is no object"
        for key, item in value.items():
            assert key in fields, f"{where}: KServe's {type_name} has no {key}"
            _check(item, fields[key], version, f"{where}.{key}")
    else:
        _check_core(value, type_name, version)


@cache
def _fields(type_name: str) -> dict[str, str]:
    """JSON key -> type, of one of the SDK's classes; empty for a class of Kubernetes' own."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type_name).lower()
    path = _sdk() / f"{words}.py"
    if not path.exists():
        return {}
    (declared,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef))
    tables = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in declared.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict)
    }
    return {tables["attribute_map"][name]: kind for name, kind in tables["openapi_types"].items()}


def _sdk() -> Path:
    if not SDK.exists():
        missing("no SDK of KServe to compare with: make .venv/kserve")
    return SDK


def _check_core(value: Any, type_name: str, version: str) -> None:
    definitions = _definitions(version)
    names = [name for name in definitions if re.fullmatch(rf"io\.k8s\.\w+\.\S+\.{type_name[2:]}", name)]
    core = [name for name in names if name.startswith("io.k8s.api.core.v1.")] or names
    assert core, f"neither KServe nor Kubernetes {version} has {type_name}"
    _validator(version, core[0]).validate(value)


@cache
def _validator(version: str, name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _definitions(version)})


@cache
def _definitions(version: str) -> dict[str, Any]:
    (folder,) = (path for path in SCHEMAS.iterdir() if re.fullmatch(rf"v{version}\.\d+-local-strict", path.name))
    found: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return found

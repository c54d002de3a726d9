"""Backends that tell little without their libraries: which file each needs, and what is certainly wrong in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from builder.check.backends import place
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

ENGINE = Rule(
    "TMR761",
    "vllm-engine-arguments",
    Level.ERROR,
    "model.json of a vLLM model is no JSON object.",
    "The backend gives what is in it to vLLM's engine as arguments.",
    'Write an object, such as {"model": "...", "gpu_memory_utilization": 0.5}.',
    "vllm_backend: src/model.py",
)
NO_MODEL = Rule(
    "TMR836",
    "vllm-model-not-named",
    Level.WARNING,
    "model.json of a vLLM model does not say which model.",
    "vLLM falls back to a default of its own, which it downloads.",
    'Write "model" into it.',
    "vLLM: EngineArgs.model",
)
TEMPLATE = Rule(
    "TMR837",
    "template-not-filled-in",
    Level.WARNING,
    "A parameter still has the placeholder of a template.",
    "The text goes to the backend as it is.",
    "Fill in the template, or take the parameter away.",
    "tensorrtllm_backend: tools/fill_template.py",
)
RULES: tuple[Rule, ...] = (ENGINE, NO_MODEL, TEMPLATE)
MOST_BYTES = 1024 * 1024
SAVED_MODEL, GRAPH = "model.savedmodel", "model.graphdef"


class Dali:
    """A pipeline as DALI serialised it, or the Python that is to be serialised."""

    RULES: tuple[Rule, ...] = ()
    DEFAULT_FILE: str = "model.dali"

    def demands(self, model: Model, context: Context) -> Iterator[Finding]:
        yield from place.check(model, self.DEFAULT_FILE, instead=("dali.py",), server="DALI Backend error: ")

    def artifacts(self, model: Model, context: Context) -> Iterator[Finding]:
        for artifact in place.artifacts(model, self.DEFAULT_FILE):
            if why := place.foreign(artifact.path):
                yield place.damaged(model, artifact.path, f"it {why}")


class TensorFlow:
    """A graph in one file, or a SavedModel, which is a folder."""

    RULES: tuple[Rule, ...] = ()
    DEFAULT_FILE: str = SAVED_MODEL

    def demands(self, model: Model, context: Context) -> Iterator[Finding]:
        default = GRAPH if model.filled.platform == "tensorflow_graphdef" else SAVED_MODEL
        if default == GRAPH:
            yield from place.check(model, default)
        else:
            yield from place.check(model, default, within="saved_model.pb")

    def artifacts(self, model: Model, context: Context) -> Iterator[Finding]:
        yield from ()


class Vllm:
    """Arguments of vLLM's engine; the backend itself is Python, which fills in all tensors."""

    RULES: tuple[Rule, ...] = RULES
    DEFAULT_FILE: str = "model.json"

    def demands(self, model: Model, context: Context) -> Iterator[Finding]:
        yield from place.check(model, self.DEFAULT_FILE, server="containing vllm engine args must be provided in")

    def artifacts(self, model: Model, context: Context) -> Iterator[Finding]:
        for artifact in place.artifacts(model, self.DEFAULT_FILE):
            with artifact.path.open("rb") as file:
                data = file.read(MOST_BYTES)
            try:
                found = json.loads(data)
            except (ValueError, RecursionError) as error:
                yield model.finding_at(ENGINE, artifact.path, f"it is no JSON: {error}", "JSONDecodeError")
                continue
            if not isinstance(found, dict):
                yield model.finding_at(ENGINE, artifact.path, f"it is a {type(found).__name__}, not an object")
            elif "model" not in found:
                yield model.finding_at(NO_MODEL, artifact.path, "it has no model")


class TensorRtLlm:
    """Engines in folders that the parameters name."""

    RULES: tuple[Rule, ...] = ()
    DEFAULT_FILE: str = ""

    def demands(self, model: Model, context: Context) -> Iterator[Finding]:
        yield from ()

    def artifacts(self, model: Model, context: Context) -> Iterator[Finding]:
        for key, value in model.filled.parameters.items():
            text = value.string_value
            if text.startswith("${") and text.endswith("}"):
                yield model.finding(TEMPLATE, f"{key} is still {text}", "parameters", key)

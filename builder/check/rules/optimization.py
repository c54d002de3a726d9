"""What else a config may ask for: metrics, files by GPU, libraries of operations, accelerators."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import BACKENDS, UTILS, quoted

ACCELERATORS: Mapping[str, frozenset[str]] = {
    "gpu_execution_accelerator": frozenset({"tensorrt", "cuda", "gpu_io", "auto_mixed_precision"}),
    "cpu_execution_accelerator": frozenset({"openvino"}),
}
LABEL = re.compile(r"(?!_)[a-zA-Z0-9_]*")
"""Of a tag; the server writes a `_` in front, and labels with two are Prometheus' own."""
OF_OPERATIONS = frozenset({"tensorflow", "onnxruntime"})
"""Backends that load libraries of operations."""

NO_METRIC = Rule(
    "TMR331",
    "metric-without-identifier",
    Level.ERROR,
    "A metric is set up without saying which.",
    "The server knows a metric by its family.",
    "Add `metric_identifier { family: ... }`.",
    UTILS,
)
NO_FAMILY = Rule(
    "TMR332",
    "metric-without-family",
    Level.ERROR,
    "A metric's identifier has no family.",
    "The server knows a metric by its family.",
    "Add `family`, such as nv_inference_first_response_histogram_ms.",
    UTILS,
)
NO_HISTOGRAM = Rule(
    "TMR333",
    "metric-without-histogram",
    Level.ERROR,
    "A metric is set up without histogram options.",
    "There is nothing else that could be set up of a metric.",
    "Add `histogram_options { buckets: [...] }`, or leave the metric out.",
    UTILS,
)
NO_BUCKETS = Rule(
    "TMR334",
    "histogram-without-buckets",
    Level.ERROR,
    "A histogram has no buckets.",
    "A histogram counts by buckets.",
    "Add `buckets`, their upper bounds in ascending order.",
    UTILS,
)
TAG = Rule(
    "TMR335",
    "metric-tag-is-no-label",
    Level.ERROR,
    "The key of a metric tag has a character that no label of Prometheus may have, or begins with `_`.",
    "The server ends when it makes a label of it, with metrics off, too, and with it every other model.",
    "Write the key in ASCII letters, digits and `_`, which must not come first.",
    "core: src/metric_model_reporter.cc",
)
FILES_BY_GPU = Rule(
    "TMR351",
    "files-by-gpu-without-effect",
    Level.WARNING,
    "`cc_model_filenames` is given to a backend that does not read it.",
    "Plans alone are made for one kind of GPU; all others load default_model_filename.",
    "Leave `cc_model_filenames` out.",
    "tensorrt_backend: src/tensorrt_model.cc",
)
OPERATIONS = Rule(
    "TMR353",
    "operations-without-effect",
    Level.WARNING,
    "Libraries of operations are given to a backend that loads none.",
    "Nothing is loaded, and nothing is said.",
    "Leave `model_operations` out.",
    "onnxruntime_backend: src/onnxruntime.cc",
)
ACCELERATOR = Rule(
    "TMR354",
    "unknown-accelerator",
    Level.WARNING,
    "No backend of NVIDIA's has an execution accelerator of this name.",
    "Backends that have accelerators refuse one that they do not know, and others do not look.",
    "Mind the spelling: tensorrt, cuda, gpu_io and auto_mixed_precision for GPUs, openvino for CPUs.",
    "onnxruntime_backend: src/onnxruntime.cc",
)
RULES = (
    *(NO_METRIC, NO_FAMILY, NO_HISTOGRAM, NO_BUCKETS, TAG),
    *(FILES_BY_GPU, OPERATIONS, ACCELERATOR),
)


def check(model: Model, context: Context) -> Iterator[Finding]:
    for place, control in enumerate(model.filled.model_metrics.metric_control):
        yield from _metric(model, place, control)
    for key in model.filled.metric_tags:
        if not LABEL.fullmatch(key):
            message = f"the tag {quoted(key)} cannot be a label"
            yield model.finding(TAG, message, "metric_tags", key, server=DIED)
    backend = model.filled.backend
    if model.filled.cc_model_filenames and backend in BACKENDS - {"tensorrt"}:
        yield model.finding(FILES_BY_GPU, f"the backend {backend} does not look at it", "cc_model_filenames")
    if model.filled.model_operations.op_library_filename and backend in BACKENDS - OF_OPERATIONS:
        message = f"the backend {backend} loads no libraries of operations"
        yield model.finding(OPERATIONS, message, "model_operations")
    if model.config.message.optimization.HasField("execution_accelerators"):
        yield from _accelerators(model)


def _metric(model: Model, place: int, control: Any) -> Iterator[Finding]:
    path = ("model_metrics", "metric_control", place)
    if not control.HasField("metric_identifier"):
        server = "metric control must specify 'metric_identifier'"
        yield model.finding(NO_METRIC, f"metric {place} is not named", *path, server=server)
    elif not control.metric_identifier.family:
        server = "metric identifier must specify non-empty 'family'"
        yield model.finding(NO_FAMILY, f"metric {place} has no family", *path, "metric_identifier", server=server)
    if not control.HasField("histogram_options"):
        server = "metric control must specify 'histogram_options'"
        yield model.finding(NO_HISTOGRAM, f"metric {place} has no histogram options", *path, server=server)
    elif not control.histogram_options.buckets:
        server = "histogram options must specify non-empty 'buckets'"
        yield model.finding(NO_BUCKETS, f"metric {place} has no buckets", *path, "histogram_options", server=server)


def _accelerators(model: Model) -> Iterator[Finding]:
    if model.filled.backend == "onnxruntime":
        return  # which refuses it, as its own rule says
    given = model.config.message.optimization.execution_accelerators
    for field, known in ACCELERATORS.items():
        for place, accelerator in enumerate(getattr(given, field)):
            if accelerator.name not in known:
                path = ("optimization", "execution_accelerators", field, place, "name")
                message = f"there is no accelerator {quoted(accelerator.name)}"
                yield model.finding(ACCELERATOR, message, *path)

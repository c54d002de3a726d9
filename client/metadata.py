"""What Triton tells of its models, as `ModelInfo` and `ModelStatistics`. By gRPC and by HTTP the same, but for numbers:
gRPC writes those of 64 bits as text, and leaves out zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from client import tasks
from client.types import BatchSpent, ModelInfo, ModelStatistics, Spent, TensorInfo

TASK = "task"
MAX_IMAGE_BYTES = "max_image_bytes"
MAX_TEXT_BYTES = "max_text_bytes"


def model_info(meta: Mapping[str, Any], config: Mapping[str, Any]) -> ModelInfo:
    parameters = {name: str(value.get("string_value", "")) for name, value in config.get("parameters", {}).items()}
    info = ModelInfo(
        name=meta["name"],
        versions=tuple(meta.get("versions", ())),
        platform=meta.get("platform") or config.get("backend", ""),
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=_tensor_infos(meta.get("inputs", ())),
        outputs=_tensor_infos(meta.get("outputs", ())),
        steps=tuple(step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())),
        max_image_bytes=_number(parameters.get(MAX_IMAGE_BYTES, "")),
        max_text_bytes=_number(parameters.get(MAX_TEXT_BYTES, "")),
        task=parameters.get(TASK) or None,
        optional=tuple(one["name"] for one in config.get("input", ()) if one.get("optional")),
        parameters=parameters,
    )
    return info if info.task else replace(info, task=tasks.recognised(info))


def _tensor_infos(tensors: Sequence[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(t["name"], t["datatype"], tuple(int(side) for side in t.get("shape", ()))) for t in tensors)


def _number(text: str) -> int | None:
    """From a parameter that build-repo writes; other models, and older ones, do not tell."""
    return int(text) if text.isascii() and text.isdecimal() else None


def model_statistics(item: Mapping[str, Any]) -> ModelStatistics:
    """From Triton's statistics extension."""
    spent = {name: _spent(value) for name, value in item.get("inference_stats", {}).items()}
    return ModelStatistics(
        name=item["name"],
        version=item.get("version", ""),
        inferences=int(item.get("inference_count", 0)),
        executions=int(item.get("execution_count", 0)),
        success=spent.get("success", Spent()),
        failure=spent.get("fail", Spent()),
        queue=spent.get("queue", Spent()),
        compute_input=spent.get("compute_input", Spent()),
        compute_infer=spent.get("compute_infer", Spent()),
        compute_output=spent.get("compute_output", Spent()),
        batches=tuple(
            BatchSpent(int(batch.get("batch_size", 0)), _spent(batch.get("compute_infer", {})))
            for batch in item.get("batch_stats", ())
        ),
    )


def _spent(value: Mapping[str, Any]) -> Spent:
    return Spent(int(value.get("count", 0)), int(value.get("ns", 0)))

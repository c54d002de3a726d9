"""A task: one line of text with numbers -> one estimate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field

from builder.errors import VerificationError
from builder.networks.heads import one_tensor, with_head
from builder.steps import STEPS
from builder.steps.staging import stage_step
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Call, Entry, Example, Pipeline, Reference
from builder.triton.signature import NETWORK_INPUT, Signature, TensorSpec
from builder.types import Network, Predict, Report, Tensors, Verification
from outside.numbers_in_text import Settings

if TYPE_CHECKING:
    from torch import nn

STEP = "numbers_in_text"


class Estimates(ModelSpec):
    lines: tuple[str, ...] = Field(description="Lines to prove the model with.")
    scale: float = 1.0


SPEC: type[ModelSpec] = Estimates
HAS_STEPS = True


@dataclass(frozen=True)
class Lines:
    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, number: int) -> str:
        return f"line {number}"

    def batches(self, size: int, count: int | None = None) -> Iterator[Tensors]:
        return ({"x": rows} for rows in self.rows[:count].split(size))


def require(entry: Entry) -> None:
    if len({line.count(",") for line in entry.spec.lines}) != 1:
        raise entry.error("all lines must have the same number of values", "lines")


def settings(entry: Entry) -> Settings:
    return Settings(count=entry.spec.lines[0].count(",") + 1, scale=entry.spec.scale)


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    report("reading the lines")
    read = STEPS[STEP].function(settings(entry))
    rows = torch.stack([torch.from_numpy(read(line.encode())) for line in entry.spec.lines])
    module = with_head(network.module, (NETWORK_INPUT,), one_tensor)
    with torch.inference_mode():
        answers = module(rows)
    signature = Signature((TensorSpec("x", "FP32", (rows.shape[1],)),), (TensorSpec("y", "FP32", (1,)),))
    return module, Reference(signature, Lines(rows), answers, network.trained, dict(network.provenance))


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    return with_head(network.module, (NETWORK_INPUT,), one_tensor)


def calibration(entry: Entry, reference: Reference) -> None:
    return None


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    found = torch.cat([predict(batch)["y"] for batch in reference.samples.batches(2)])
    errors = (found - reference.answers).abs()
    return Verification((2,), len(errors), errors.max().item(), errors.mean().item())


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    if not verification.max_abs_error < 1e-4:
        raise VerificationError(f"{what}: estimates differ by {verification.max_abs_error:.2e}")


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    for line, rows in zip(entry.spec.lines, reference.samples.batches(1), strict=True):
        yield Example({"LINE": line.encode()}, {"ESTIMATE": predict(rows)["y"]})


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    wanted = settings(entry)
    staged = stage_step(folder / STEP, STEPS[STEP], wanted, entry.spec.lines[0].encode(), entry.cores)
    (line,), (numbers,) = STEPS[STEP].signature(wanted).inputs, STEPS[STEP].signature(wanted).outputs
    calls: Any = (
        Call({line.name: line.name}, {numbers.name: numbers.name}, staged),
        Call({"x": numbers.name}, {"y": "ESTIMATE"}),
    )
    return Pipeline(Signature((line,), (TensorSpec("ESTIMATE", "FP32", (1,)),)), calls)

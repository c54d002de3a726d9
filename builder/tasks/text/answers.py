"""What a network gives for texts: one row each, of that text alone, whatever stands beside it and pads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.errors import ExportError, VerificationError
from builder.tasks.embedding import comparison
from builder.tasks.text.samples import Pass, Run, TextSamples
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

    Rows = Callable[[dict[str, torch.Tensor]], torch.Tensor]
    """int64 [B, S] of each input -> float32 [B, ...]."""

LIMIT = 0.02
HALF_LIMIT = 0.3
"""How much of what the texts change a second run, padding or the company of a text may change."""
ALIKE = 1e-4
"""Of the rows' length: texts that are no further apart are the same to the network."""


def rows_of(predict: Rows, samples: TextSamples, passes: Sequence[Pass]) -> list[torch.Tensor]:
    """Rows [texts, ...] of each pass, in the order of the texts."""
    return [of_pass(predict, samples, one) for one in passes]


def of_pass(predict: Rows, samples: TextSamples, wanted: Pass) -> torch.Tensor:
    import torch

    found = torch.cat([predict(samples.batch(run)).clone() for run in wanted.runs])
    return found[torch.tensor(wanted.numbers).argsort()]


def runner(head: nn.Module, inputs: Sequence[str], name: str) -> Rows:
    """The head, held to a row a text; whatever a user's forward() does is told of it."""

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        count, width = batch[inputs[0]].shape
        with border(ExportError, f"{name}: the network fails on {described(count, width)}"):
            rows: torch.Tensor = head(*(batch[one].clone() for one in inputs))
        if len(rows) != count:
            raise VerificationError(f"{name}: the network gives {len(rows)} rows for {count} texts")
        return rows.float().detach().clone()

    return predict


def described(count: int, width: int) -> str:
    return f"{count} text{'s' if count > 1 else ''} of {width} token{'s' if width > 1 else ''}"


def require_numbers(predict: Rows, samples: TextSamples, largest: int, name: str) -> None:
    """Raise VerificationError where the network does not know the tokenizer's largest number, or so many tokens.

    Raises ExportError where it fails on less than that. A server would end with some of these.
    """
    most, padding = samples.settings.max_length, samples.settings.pad_id
    predict(_numbers(samples, [0, 0, 0]))
    for numbers, message in (
        (
            [0, largest],
            f"the tokenizer gives numbers up to {largest}, and the network fails on that; its embedding has fewer rows "
            "than the tokenizer has tokens: one of them belongs to another network",
        ),
        (
            [padding] * most,
            f"the network fails on {most} tokens; give a smaller `max_length:`, what it was trained with",
        ),
    ):
        try:
            predict(_numbers(samples, numbers))
        except ExportError as error:
            raise VerificationError(f"{name}: {message} ({error})") from None


def _numbers(samples: TextSamples, numbers: list[int]) -> dict[str, torch.Tensor]:
    """One text of these tokens."""
    import torch

    rows = torch.tensor([numbers])
    values = (rows, torch.ones_like(rows), torch.zeros_like(rows))
    return dict(zip(samples.inputs, values, strict=False))


def require_finite(rows: Sequence[torch.Tensor], passes: Sequence[Pass], samples: TextSamples, name: str) -> None:
    import torch

    for found, one in zip(rows, passes, strict=True):
        bad = ~torch.isfinite(found).flatten(1).all(1)
        if bad.any():
            number = sorted(one.numbers)[int(bad.nonzero()[0])]
            nothing = samples.batch(Run((number,)))[samples.inputs[1]].sum() == 0
            hint = (
                ". The tokenizer makes no token of it, so that all of it is masked; a mask of torch.finfo(x.dtype).min "
                "in place of -inf gives numbers" if nothing else "; its weights are damaged"
            )  # fmt: skip
            raise VerificationError(
                f"{name}: the network itself gives NaN or infinite numbers for {samples.name(number)}{hint}"
            )


def require_same(predict: Rows, rows: Sequence[torch.Tensor], passes: Sequence[Pass], samples: TextSamples,
                 name: str) -> None:  # fmt: skip
    """Raise VerificationError where chance, padding or other texts decide."""
    again = of_pass(predict, samples, passes[1])
    alone = rows[1]
    _hold(
        alone,
        again,
        alone,
        f"{name}: the network gives other answers when it is run twice on the same texts. Chance must not decide in "
        "evaluation mode",
    )
    _hold(
        alone,
        rows[0],
        alone,
        f"{name}: the network's answer for a text depends on its padding, which it is to leave out by attention_mask; "
        "the server pads each text to the longest of those that come at the same time. See that forward() hands the "
        "mask on, and that positions are counted from the text's own beginning",
    )
    for other in rows[2:]:
        _hold(
            alone,
            other,
            alone,
            f"{name}: the network's answer for a text depends on the other texts of its batch, and the server forms "
            "batches of anybody's texts. The usual causes are a mask that is not used, batch normalisation without "
            "running averages and attention over the batch (batch_first=False); mend forward()",
        )


def _hold(first: torch.Tensor, second: torch.Tensor, whole: torch.Tensor, message: str) -> None:
    import torch

    count = min(len(first), len(second))
    is_half = any(torch.equal(whole.to(kind).float(), whole) for kind in (torch.float16, torch.bfloat16))
    distance = (first[:count].double() - second[:count].double()).norm(dim=1).max()
    share = (distance / _scale(whole)).item()
    if not share <= (limit := HALF_LIMIT if is_half else LIMIT):
        raise VerificationError(
            f"{message}; it differs by {share:.2g} of what the texts themselves change (limit {limit})"
        )


def _scale(rows: torch.Tensor) -> torch.Tensor:
    """What the texts change, and no less than what rounding does."""
    return comparison.spread(rows).clamp_min(1e-5 * rows.double().norm(dim=1).max())


def remarks(rows: torch.Tensor, trained: bool) -> list[str]:
    """`rows` are those of all texts."""
    length = rows.double().norm(dim=1).max()
    if trained and len(rows) > 1 and comparison.spread(rows) <= ALIKE * length:
        return [
            "the network gives nearly the same answer for every text; its weights may not be trained, or the "
            "tokenizer may be another network's"
        ]
    return []

"""What is said of a state dict that does not fit its network: what differs, and what helps."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from builder.networks.readings import TRACKED, Reading
from builder.networks.state_files import SHOWN_KEYS, shortened
from builder.util.reasons import reason

QUANTISED = re.compile(r"(^|[._])(scales?|zero_points?|zeros|qweight|_packed_params|absmax|quant_map|SCB)$")


@dataclass(frozen=True)
class Difference:
    """Why a reading does not fit."""

    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Tensors of another shape than the network's, each in words."""
    failure: str = ""
    """What the module's own loading raised."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.wrong or self.failure)

    @property
    def size(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.wrong) + bool(self.failure)


def failure(error: Exception) -> str:
    """What a module's own loading raised; torch puts a heading above its list."""
    lines = str(error).splitlines()
    return lines[1].strip() if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else reason(error)


def of_other_types(origin: str, strange: list[str]) -> str:
    return (
        f"{origin} does not hold the network's weights, but other numbers: {'; '.join(strange[:SHOWN_KEYS])}"
        f"{_more(strange)}. If they were quantised, their scales are elsewhere: name the float weights, and ask for "
        "int8 by `precision:`"
    )


def _more(items: Sequence[str]) -> str:
    return f" and {len(items) - SHOWN_KEYS} more" if len(items) > SHOWN_KEYS else ""


def several(origin: str, found: Sequence[Reading]) -> str:
    prefixes = [repr(reading.prefix) for reading in found]
    return (
        f"{origin} fits the network more than once: behind the prefixes {', '.join(prefixes[:SHOWN_KEYS])}"
        f"{_more(prefixes)}. Save the one that is meant: torch.save({{k.removeprefix(P): v for k, v in "
        "torch.load(PATH).items() if k.startswith(P)}, NEW)"
    )


def refusal(origin: str, reading: Reading, difference: Difference, own: Collection[str]) -> str:
    parts = [f"{word} {shortened(keys)}" for word, keys in _lists(difference) if keys]
    if difference.wrong:
        parts.append("; ".join(difference.wrong[:SHOWN_KEYS]) + _more(difference.wrong))
    if difference.failure:
        parts.append(f"its own loading fails: {difference.failure}")
    read = f" ({reading.meaning})" if reading.meaning else ""
    return f"{origin} does not fit the network{read}: {'; '.join(parts)}. {_advice(difference, own)}"


def _lists(difference: Difference) -> tuple[tuple[str, list[str]], ...]:
    return (("missing", difference.missing), ("unknown", difference.unknown))


def _advice(difference: Difference, own: Collection[str]) -> str:
    """What helps, by what differs."""
    if any(QUANTISED.search(key) for key in difference.unknown):
        return "These are a quantised network's; name the float weights"
    if difference.wrong and not difference.missing and not difference.unknown:
        return "Correct the network's `arguments:` (such as num_classes), or name another file"
    if set(difference.missing) >= {key for key in own if not key.endswith(TRACKED)}:
        return (
            "None of the network's keys is there: correct `network:`, name another file, or rename the keys: "
            "torch.save({NEW_NAME(k): v for k, v in torch.load(PATH).items()}, NEW)"
        )
    return "Correct `network:` or its `arguments:`, or name another file"

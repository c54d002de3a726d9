"""Whether mean and std are of pixels from 0 to 1, and what they would be if they are of another scale."""

from __future__ import annotations

from collections.abc import Iterable

# A mean of such pixels is within 0..1, and no deviation is above 0.5. Beyond these nothing of a picture is left:
# from black to white it is less than a quarter, or it is far away.
MOST_MEAN = 2.0
MOST_STD = 4.0
# Of 0..65535, the widest scale of a network that takes whole numbers, it is 1/65535; less is a mistake, too.
LEAST_STD = 1e-6
SCALES = (255, 65535)

Numbers = tuple[float, ...]


def mistake(mean: Numbers, std: Numbers) -> str:
    """What is wrong, with the right figures; nothing if they can be meant. Either may be empty."""
    wrong = {
        "mean": [value for value in mean if abs(value) > MOST_MEAN],
        "std": [value for value in std if value > MOST_STD],
    }
    if any(wrong.values()):
        return _of_another_scale(mean, std, {name for name, values in wrong.items() if values})
    if any(value < LEAST_STD for value in std):
        return (
            f"std {_list(std)} would make numbers as large as {1 / max(min(std), 1e-300):.0e} of pixels from 0 to 1: "
            "say their standard deviation, such as 0.229"
        )
    return ""


def _of_another_scale(mean: Numbers, std: Numbers, wrong: set[str]) -> str:
    values = {"mean": mean, "std": std}
    said = " and ".join(f"{name} {_list(values[name])}" for name in ("mean", "std") if name in wrong)
    largest = max(abs(value) for name in wrong for value in values[name])
    scale = next((scale for scale in SCALES if largest <= scale), None)
    verb = "are" if len(wrong) == 2 else "is"
    if scale is None:
        return f"{said} {verb} of no scale of pixels; they are from 0 to 1 here"
    right = {"mean": [abs(value) / scale for value in mean] if "mean" in wrong else []}
    # Pixels less their mean, not divided, are of the larger scale still.
    right["std"] = [value / scale for value in std] if "std" in wrong or min(std, default=0) >= 1 else []
    means = ", ".join(f"{name}: {_list(numbers)}" for name, numbers in right.items() if numbers)
    return f"{said} {verb} of pixels from 0 to {scale}, and they are from 0 to 1 here: say {means}"


def _list(values: Iterable[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"

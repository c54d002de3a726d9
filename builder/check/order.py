"""Which models need which, and in which order they are judged: steps before the ensembles that they are steps of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.check.model import Model


def steps(model: Model) -> tuple[str, ...]:
    """Names of the models that it asks, each once, in the order of its steps; nothing where it is no ensemble."""
    if not model.filled.HasField("ensemble_scheduling"):
        return ()
    return tuple(dict.fromkeys(step.model_name for step in model.filled.ensemble_scheduling.step))


def in_order(models: Mapping[str, Model]) -> list[Model]:
    """All of them; of those that need each other, some must come first."""
    ordered: dict[str, Model] = {}
    for name in models:
        for needed in _upstream(name, models, ordered):
            ordered[needed] = models[needed]
    return list(ordered.values())


def _upstream(start: str, models: Mapping[str, Model], done: Mapping[str, Model]) -> Iterator[str]:
    """`start` behind all that it needs and that is not done; chains may be longer than a stack is deep."""
    begun, open_ends = {start}, [(start, iter(steps(models[start])))]
    if start in done:
        return
    while open_ends:
        _, left = open_ends[-1]
        needed = next((one for one in left if one in models and one not in done and one not in begun), None)
        if needed is None:
            yield open_ends.pop()[0]
        else:
            begun.add(needed)
            open_ends.append((needed, iter(steps(models[needed]))))


def circle(model: Model, models: Mapping[str, Model]) -> tuple[str, ...]:
    """The way from a model over its steps back to it, without it at the end; empty: there is none."""
    came_from: dict[str, str] = {}
    waiting = [model.name]
    while waiting:
        current = waiting.pop()
        for needed in steps(models[current]):
            if needed == model.name:
                return _way(current, came_from)
            if needed in models and needed not in came_from:
                came_from[needed] = current
                waiting.append(needed)
    return ()


def _way(end: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [end]
    while way[-1] in came_from:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))

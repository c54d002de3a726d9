"""Which models need which, and in which order they are judged: steps before the ensembles that they are steps of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from builder.check.model import Model


def steps(model: Model) -> tuple[str, ...]:
    """Names of the models that it asks, each once, in the order of its steps; nothing where it is no ensemble."""
    if not model.filled.HasField("ensemble_scheduling"):
        return ()
    return tuple(dict.fromkeys(step.model_name for step in model.filled.ensemble_scheduling.step))


def in_order(models: Mapping[str, Model], first: Sequence[str] = ()) -> list[Model]:
    """All of them; of those that need each other, some must come first: those that are named, whatever they need."""
    ordered = {name: models[name] for name in first}
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


def circles(models: Mapping[str, Model]) -> dict[str, tuple[str, ...]]:
    """Of each model that asks itself, the way back to it; of each that leads to such a one, that one's way."""
    left = _never_done(models)
    ways = {name: way for name in left if (way := _circle(name, left))}
    for name in left:
        for needed in _reached(name, left):
            if name not in ways and needed in ways and needed in ways[needed]:
                ways[name] = ways[needed]
    return ways


def _never_done(models: Mapping[str, Model]) -> dict[str, tuple[str, ...]]:
    """The steps of those that always wait for another; hardly any repository has one."""
    left = {name: asked for name, model in models.items() if (asked := steps(model))}
    size = -1
    while size != len(left):
        size = len(left)
        left = {name: there for name, asked in left.items() if (there := tuple(one for one in asked if one in left))}
    return left


def _reached(start: str, left: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """All that is asked on the ways from `start`, with what asks it first."""
    came_from: dict[str, str] = {}
    waiting = [start]
    for current in waiting:
        for needed in left[current]:
            if needed in left and needed not in came_from:
                came_from[needed] = current
                waiting.append(needed)
    return came_from


def _circle(name: str, left: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    came_from = _reached(name, left)
    if name not in came_from:
        return ()
    way = [came_from[name]]
    while way[-1] != name:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))

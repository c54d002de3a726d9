"""An ensemble's tensors: which steps write and read each, and which can be made at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class End:
    """Where a step meets a tensor of the ensemble: one entry of a map."""

    step: int
    kind: str
    """input_map or output_map."""
    key: str
    """The name in the step's model."""
    tensor: str
    """The name in the ensemble."""

    @property
    def path(self) -> tuple[str | int, ...]:
        return ("ensemble_scheduling", "step", self.step, self.kind, self.key)


@dataclass
class Tensor:
    written: list[End] = field(default_factory=list)
    read: list[End] = field(default_factory=list)


Graph = dict[str, Tensor]


def inputs(config: Any) -> Iterator[End]:
    return _ends(config, "input_map")


def outputs(config: Any) -> Iterator[End]:
    return _ends(config, "output_map")


def _ends(config: Any, kind: str) -> Iterator[End]:
    for index, step in enumerate(config.ensemble_scheduling.step):
        for key, tensor in sorted(getattr(step, kind).items()):
            yield End(index, kind, key, tensor)


def of(config: Any) -> Graph:
    graph: Graph = {}
    for end in outputs(config):
        graph.setdefault(end.tensor, Tensor()).written.append(end)
    for end in inputs(config):
        graph.setdefault(end.tensor, Tensor()).read.append(end)
    return graph


def ready(config: Any, graph: Graph) -> set[str]:
    """What can be made of the inputs: a tensor whose writers have all that they read.

    What a step without an input_map would make is counted, too: that it has none is told once.
    """
    needs = _needs(config, graph)
    done = {one.name for one in config.input if one.name in graph}
    done.update(
        name for step in config.ensemble_scheduling.step if not step.input_map for name in step.output_map.values()
    )
    waiting = list(done)
    while waiting:
        for end in graph[waiting.pop()].read:
            for name in config.ensemble_scheduling.step[end.step].output_map.values():
                if name not in done and needs[name] <= done:
                    done.add(name)
                    waiting.append(name)
    return done


def _needs(config: Any, graph: Graph) -> dict[str, set[str]]:
    """Of each tensor, all that must be there before."""
    needs: dict[str, set[str]] = {name: set() for name in graph}
    for step in config.ensemble_scheduling.step:
        for name in step.output_map.values():
            needs[name].update(step.input_map.values())
    return needs

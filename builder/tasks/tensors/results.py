"""What forward() gives, taken apart: one tensor a name, one level deep."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError

if TYPE_CHECKING:
    import torch

ONE = "output"
"""What the only tensor of a network is called that gives it no name."""


class NoOutput(ValueError):
    """Names of outputs that the network does not give. `name`: the one at fault, where it is one."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def named(result: Any) -> dict[str, Any]:
    """By name, the parts of a result. Dicts, dataclasses and named tuples bring names; the others are numbered.

    What is within a part has the part's name before its own. What is no tensor is left as it is.
    """
    found: dict[str, Any] = {}
    for name, part in _parts(result, f"{ONE}_") or ((ONE, result),):
        for inner, value in _parts(part, f"{name}_", f"{name}_") or ((name, part),):
            if inner in found:
                raise ExportError(f"two parts of forward()'s result would be called {inner!r}; give one another name")
            found[inner] = value
    return found


def _parts(value: Any, numbered: str, before: str = "") -> tuple[tuple[str, Any], ...]:
    """Of what holds several: names and parts; of everything else, nothing."""
    if isinstance(value, Mapping):  # as transformers' ModelOutput is, which is a dataclass too
        return tuple((f"{before}{key}", part) for key, part in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple((f"{before}{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple | list):
        names: Sequence[str] | None = getattr(value, "_fields", None)
        keys = [f"{before}{name}" for name in names] if names else [f"{numbered}{i}" for i in range(len(value))]
        return tuple(zip(keys, value, strict=True))
    return ()


def brings_names(result: Any) -> bool:
    """Whether the network names its results itself."""
    return not (_is_tensor(result) or (isinstance(result, tuple | list) and not hasattr(result, "_fields")))


@dataclass(frozen=True)
class Layout:
    """Which of the network's own results are served, and under which names."""

    outputs: tuple[str, ...]
    """The served names, in order."""
    sources: tuple[str, ...]
    """The network's own, in the same order."""
    dropped: frozenset[str] = frozenset()
    """Those that were None."""
    is_one_tensor: bool = False
    """Whether the network gives the output itself, and nothing around it."""

    def picked(self, result: Any) -> tuple[torch.Tensor, ...]:
        """The outputs, in order. Raises ExportError where the result is not as it was for the first sample."""
        found = named(result)
        for name in self.sources:
            _require_tensor(name, found.get(name))
        for name in self.dropped:
            if found.get(name) is not None:
                raise ExportError(
                    f"forward()'s {name!r} is None for some samples, and a tensor for others; {_choose()}"
                )
        return tuple(found[name] for name in self.sources)


def layout_of(result: Any, wanted: Mapping[str, str] | Sequence[str] | None) -> Layout:
    """How the result of the first sample is served. `wanted` is the manifest's `outputs`.

    Raises NoOutput for names that are none, and ExportError for what cannot be served.
    """
    found = named(result)
    present = [name for name, value in found.items() if value is not None]
    if not present:
        raise ExportError("forward() gives nothing; let it return tensors")
    chosen = _chosen(present, wanted, brings_names(result))
    for source in chosen.values():
        _require_tensor(source, found[source])
    dropped = frozenset() if wanted else frozenset(found) - set(present)
    return Layout(tuple(chosen), tuple(chosen.values()), dropped, _is_tensor(result))


def _chosen(
    present: Sequence[str], wanted: Mapping[str, str] | Sequence[str] | None, has_names: bool
) -> dict[str, str]:
    """By served name, the network's own."""
    if not wanted:
        return {name: name for name in present}
    if isinstance(wanted, Mapping):
        for name, source in wanted.items():
            _require_present(source, present, name)
        return dict(wanted)
    if set(wanted) <= set(present):
        return {name: name for name in wanted}
    if has_names:
        for name in wanted:
            _require_present(name, present, name)
    if len(wanted) != len(present):
        raise NoOutput(
            f"forward() gives {len(present)} tensors, and {len(wanted)} are named; name all, in order, or choose with "
            f"`outputs: {{{wanted[0]}: {present[0]}}}`"
        )
    return dict(zip(wanted, present, strict=True))


def _require_present(source: str, present: Sequence[str], name: str) -> None:
    if source in present:
        return
    close = difflib.get_close_matches(source, present, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it gives {', '.join(present)}"
    rename = "" if source != name or close else f"; `outputs: {{{name}: {present[0]}}}` gives one of them another name"
    raise NoOutput(f"forward() gives no {source!r}; {hint}{rename}", name)


def _require_tensor(name: str, value: Any) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ExportError(f"forward()'s {name!r} is a sparse, quantized or nested tensor; give to_dense() of it")
        if value.is_complex():
            raise ExportError(f"forward()'s {name!r} is complex, which Triton has not; give torch.view_as_real() of it")
        return
    if value is None:
        raise ExportError(f"forward()'s {name!r} is None for some samples, and a tensor for others; {_choose()}")
    if _parts(value, ""):
        raise ExportError(f"forward()'s {name!r} holds more than tensors, too deep to name them; {_choose()}")
    kind = type(value).__name__
    cure = "a tensor, such as x.new_tensor([value])" if isinstance(value, bool | int | float) else "tensors"
    raise ExportError(f"forward()'s {name!r} is a {kind}; let it give {cure}; {_choose()}")


def _choose() -> str:
    return "`outputs:` chooses which are served"


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)

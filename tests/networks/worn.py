"""Networks whose state dicts are told in several ways, small enough to be saved in all of them."""

import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Normed(Small):
    """`weight_g` and `weight_v` in old files."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.utils.parametrizations.weight_norm(self.head)


class Renaming(Small):
    """Its hook renames what files of its former version have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(self.renamed)

    def renamed(self, _, state, prefix, *rest):  # type: ignore[no-untyped-def]
        for key in [key for key in state if key.startswith(f"{prefix}fc.")]:
            state[key.replace("fc.", "head.", 1)] = state.pop(key)
        assert len(rest) == 5


class Turning(Small):
    """Its hook looks at its own numbers, so that it cannot load on the meta device."""

    def _load_from_state_dict(self, state, prefix, *rest):  # type: ignore[no-untyped-def]
        self.scale = float(self.norm.weight.mean().item())
        super()._load_from_state_dict(state, prefix, *rest)


class Extra(Small):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 2}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x.mean((2, 3))).relu())


class Masked(Small):
    """A buffer that is infinite, as attention's masks are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))


def wrapped() -> nn.Module:
    """A network that another holds: its keys have a prefix that files may lack."""
    holder = nn.Sequential()
    holder.model = Small()
    return holder


def pair() -> nn.Module:
    """Two networks of one form."""
    holder = nn.Sequential()
    holder.student, holder.teacher = Small(), Small()
    return holder

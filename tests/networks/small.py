"""Networks that the tests build: one that is sound, and those that a build must refuse."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import nn


def small(channels: int = 3, num_classes: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * 16, num_classes),
    )


def already_trained() -> nn.Module:
    torch.manual_seed(3)
    return small()


class Branching(nn.Module):
    """Traced with one kind of image, it computes something else for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.network(x)
        return scores if x.mean() > x.median() else -scores


class MarksAreHidden(nn.Module):
    """Branches on content rarely: no few images would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.network(x)
        return -scores if x.max() > 100 else scores


class BranchesOnShape(nn.Module):
    """Allowed: the shape of a served image never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) if x.shape[2] > 3 else self.network(x) * 2


class FixedBatch(nn.Module):
    """Its trace remembers the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.network(x)
        return scores + torch.arange(int(x.shape[0]))[:, None] * 0.1


class Loop(nn.Module):
    """Takes the images of a batch one by one, as many as the example has."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.network(x[i : i + 1])[0] for i in range(x.shape[0])])


class Dropped(nn.Module):
    """Drops in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(nn.functional.dropout(x))


class InHalf(nn.Module):
    """Gives its scores in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x).bfloat16()


class Colours(nn.Module):
    """Right on every image of one colour: red, green, blue."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 20 * x.mean((2, 3))


def foreign_operator() -> nn.Module:
    """Calls an operator that only this process knows."""

    @torch.library.custom_op("build_repo_tests::doubled", mutates_args=())
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = small()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return doubled(self.network(x))

    doubled.register_fake(lambda x: torch.empty_like(x))
    return Doubled()


class Shapeless(nn.Module):
    """Gives feature maps, not scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Lingering(nn.Module):
    """Takes half a minute as soon as something is staged: time for a signal, on any machine."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if any(Path().glob(".*.staging/*/network")):
            time.sleep(30)
        return self.network(x)


class NotANumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) * float("nan")


def not_a_module() -> str:
    return "a string"


def failing() -> nn.Module:
    raise RuntimeError("no such luck")


def photos() -> list[tuple[Image.Image, int]]:
    """A dataset, as torch's: indexable, of images and their classes."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10, 50, 60, 3), generator=random, dtype=torch.uint8)
    return [(Image.fromarray(image.numpy()), number % 3) for number, image in enumerate(pixels)]


def failing_photos() -> Iterator[Image.Image]:
    yield Image.new("RGB", (40, 40))
    raise OSError("no such photo")


def tensors() -> list[torch.Tensor]:
    return [torch.zeros(3, 32, 32)]

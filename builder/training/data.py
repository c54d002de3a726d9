"""Images with their classes, as the loop takes them: in an order, and with a chance, that a resumed run repeats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.errors import DataError
from builder.machine.cores import granted_cores

if TYPE_CHECKING:
    import torch
    from PIL import Image

SHOWN = 10
Key = tuple[int, int]
"""Epoch and number of the image."""


@dataclass(frozen=True)
class LabelledImages:
    """Any number of images, opened one by one."""

    items: Sequence[Any]
    classes: Sequence[int]
    opened: Callable[[Any, PreprocessRecipe], Image.Image]
    """An item, and the recipe -> a Pillow image in the recipe's mode."""
    are_files: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def image(self, number: int, recipe: PreprocessRecipe) -> Image.Image:
        """Raises DataError."""
        item = self.items[number]
        try:
            return self.opened(item, recipe)
        except DataError:
            raise
        except Exception as error:  # Pillow raises whatever a broken file makes it stumble over
            name = str(item) if self.are_files else f"image {number}"
            raise DataError(f"{name} cannot be decoded: {_short(error)}; mend or remove it") from None

    def subset(self, numbers: Sequence[int]) -> LabelledImages:
        return LabelledImages(
            [self.items[i] for i in numbers], [self.classes[i] for i in numbers], self.opened, self.are_files
        )


@dataclass(frozen=True)
class Split:
    """What is learnt from, and what is held out."""

    name: str
    train: LabelledImages
    heldout: LabelledImages
    labels: tuple[str, ...]
    digest: str
    """SHA-256 that stands for the whole set: a run is not resumed with another one."""
    facts: dict[str, Any] = field(default_factory=dict)

    def parts(self) -> tuple[tuple[str, LabelledImages], ...]:
        """The images to train with and those held out, by the names of the fields."""
        return (("train", self.train), ("heldout", self.heldout))

    def described(self) -> dict[str, Any]:
        """The set as the weights' card records it."""
        return {
            "name": self.name, "train": len(self.train), "heldout": len(self.heldout), "sha256": self.digest,
        } | self.facts  # fmt: skip


def as_mode(image: Image.Image, recipe: PreprocessRecipe) -> Image.Image:
    """An `opened` for images that are decoded already."""
    return recipe.seen(image)


def from_file(path: Any, recipe: PreprocessRecipe) -> Image.Image:
    """An `opened` for files."""
    return recipe.decode(path)


def require_decodable(
    images: LabelledImages, recipe: PreprocessRecipe, advance: Callable[[int], None] = lambda _: None
) -> None:
    """Decode every file. Raises DataError that names the broken ones."""
    if not images.are_files:
        return

    def trouble(number: int) -> str:
        try:
            images.image(number, recipe)
        except DataError as error:
            return str(error).partition("; mend")[0]
        return ""

    broken = []
    with ThreadPoolExecutor(granted_cores()) as pool:
        for number, reason in enumerate(pool.map(trouble, range(len(images)), chunksize=64)):
            advance(number + 1)
            broken += [reason] * bool(reason)
    if broken:
        more = f"\nand {len(broken) - SHOWN} more" * (len(broken) > SHOWN)
        shown = "\n".join(broken[:SHOWN])
        raise DataError(f"{len(broken)} of {len(images)} images cannot be used; mend or remove them:\n{shown}{more}")


def stratified(classes: Sequence[int], share: float, seed: int, labels: Sequence[str]) -> tuple[list[int], list[int]]:
    """Numbers to train with, and `share` of each class to hold out, at least one. Raises DataError."""
    import numpy as np

    generator = np.random.default_rng(seed)
    train: list[int] = []
    heldout: list[int] = []
    for number, label in enumerate(labels):
        members = generator.permutation([i for i, c in enumerate(classes) if c == number])
        if len(members) < 2:
            raise DataError(f"the class {label!r} has {len(members)} images; to learn and to hold out, it needs 2")
        count = min(len(members) - 1, max(1, round(len(members) * share)))
        heldout += members[:count].tolist()
        train += members[count:].tolist()
    return sorted(train), sorted(heldout)


class Examples:
    """A torch dataset of [C, H, W] and class. The chance in `transform` follows from seed, epoch and number alone."""

    def __init__(
        self,
        images: LabelledImages,
        recipe: PreprocessRecipe,
        transform: Callable[[Any], torch.Tensor],
        seed: int | None,
    ) -> None:
        """`seed` None: there is no chance in the transform."""
        self._images, self._recipe, self._transform, self._seed = images, recipe, transform, seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        import torch

        epoch, number = key
        image = self._images.image(number, self._recipe)
        if self._seed is None:
            return self._transform(image), self._images.classes[number]
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(mixed(self._seed, epoch, number))  # torch.manual_seed would ask for a GPU
        try:
            return self._transform(image), self._images.classes[number]
        finally:
            torch.set_rng_state(before)


class Batches:
    """The batches of an epoch, of which each of `world` processes gets its share."""

    def __init__(self, count: int, size: int, seed: int | None, rank: int = 0, world: int = 1) -> None:
        """`size` of all processes together; `seed` None: in order."""
        self._count, self._size, self._seed, self._rank, self._world = count, size, seed, rank, world
        self.epoch = 0
        self.start = 0
        """Batches to leave out: they were taken before the run was cut off."""

    @property
    def total(self) -> int:
        """Batches of a whole epoch.

        A last one of single images joins the one before it: batch normalisation cannot learn from one.
        """
        rest = self._count % self._size
        is_single = self._seed is not None and rest <= self._world < self._size < self._count
        return self._count // self._size if is_single else -(-self._count // self._size)

    def __len__(self) -> int:
        return max(0, self.total - self.start)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        for number in range(self.start, self.total):
            end = (number + 1) * self._size if number + 1 < self.total else self._count
            batch = order[number * self._size : end]
            if self._seed is not None:  # all processes take as many steps, of as many images
                batch += [order[i % self._count] for i in range(-len(batch) % self._world)]
            share = batch[self._rank :: self._world]
            if share:
                yield [(self.epoch, number) for number in share]

    def _order(self) -> list[int]:
        import torch

        if self._seed is None:
            return list(range(self._count))
        generator = torch.Generator().manual_seed(mixed(self._seed, self.epoch, -1))
        return torch.randperm(self._count, generator=generator).tolist()


def loader(examples: Examples, batches: Batches, workers: int, pinned: bool) -> Any:
    """Batches float32 [B, C, H, W] and int64 [B], decoded by `workers` processes."""
    from torch import Generator
    from torch.utils.data import DataLoader

    return DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pinned,
        generator=Generator(),  # so that the loop's own chance does not depend on how often it was resumed
    )


def decoded(batches: Iterable[Any]) -> Iterator[Any]:
    """What a loader gives; an image that cannot be decoded is told as if no other process had tried it."""
    try:
        yield from batches
    except DataError as error:
        raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None


def worker_count(wanted: int | None, images: LabelledImages, on_gpu: bool) -> int:
    """On a CPU only files are worth processes of their own: they would take the cores from the network."""
    if wanted is not None:
        return wanted
    cores = granted_cores()
    if on_gpu:
        return min(8, cores)
    return min(4, cores) if images.are_files and cores > 1 else 0


def mixed(*numbers: int) -> int:
    """A seed of 63 bits that differs between any two tuples, the order of which matters."""
    import hashlib

    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def _short(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else os.strerror(getattr(error, "errno", 0) or 0)

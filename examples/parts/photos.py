"""EfficientNet-Lite0 with its ImageNet weights, fp32 beside int8, on real photos."""

import io
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import photo_sets
from PIL import Image
from rich.console import Console
from rich.table import Table

from client import Client, Prediction
from parts import page
from parts.program import EXAMPLES, run, serving

FOLDER = EXAMPLES / "photos"
REPOSITORY = FOLDER / "model_repository"
PAGE = FOLDER / "index.html"
FP32, INT8 = "lite0", "lite0_int8"
SHOWN = 3
REPEATS = 7
REQUIRED_AGREEMENT = 0.75
CATS = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}
EXPECTED = {"chelsea.jpg": CATS, "coffee.jpg": {"espresso"}, "flower.jpg": {"daisy"}}


@dataclass(frozen=True)
class Answer:
    """What one model says of one photo."""

    predictions: tuple[Prediction, ...]
    """All classes, the most probable first."""
    milliseconds: float
    """Median of some requests, one at a time, JPEG to answer."""

    @property
    def best(self) -> tuple[Prediction, ...]:
        return self.predictions[:SHOWN]


@dataclass(frozen=True)
class Asked:
    photo: Path
    fp32: Answer
    int8: Answer


def show() -> list[str]:
    """What is wrong; nothing, if all is well."""
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    run("build", "-m", EXAMPLES / "photos.yaml", "-r", REPOSITORY, "--jobs", "2")
    with serving(REPOSITORY) as address, Client(address) as client:
        asked = [ask(client, photo) for photo in photo_sets.PHOTOS]
        same, total = agreement(client)
    print_table(asked)
    print(f"int8 names the same class first as fp32 on {same} of {total} photos and crops of them;")
    print("it was calibrated with other crops of the same six")
    PAGE.write_text(page.render(asked, same, total), encoding="utf-8")
    print(f"\nas a page, for a browser: {PAGE}")
    return faults(asked, same / total)


def ask(client: Client, photo: Path) -> Asked:
    """The two models take turns, so that a busy machine is busy for both."""
    data = photo.read_bytes()
    times: dict[str, list[float]] = {FP32: [], INT8: []}
    every = {model: client.classify(data, model, top=1000) for model in times}
    for _ in range(REPEATS):
        for model, taken in times.items():
            started = time.perf_counter()
            client.classify(data, model, top=SHOWN)
            taken.append((time.perf_counter() - started) * 1000)
    answers = {model: Answer(every[model], statistics.median(taken)) for model, taken in times.items()}
    return Asked(photo, answers[FP32], answers[INT8])


def agreement(client: Client) -> tuple[int, int]:
    """Of the pictures that the build was verified with, those that both name alike, and all."""
    pictures = list(encoded())
    first = [
        [outcome.predictions[0].label for outcome in client.classify_many(pictures, model, top=1)]
        for model in (FP32, INT8)
    ]
    return sum(one == other for one, other in zip(*first, strict=True)), len(pictures)


def encoded() -> Iterator[bytes]:
    for picture in photo_sets.evaluation():
        if isinstance(picture, Image.Image):
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            yield buffer.getvalue()
        else:
            yield picture.read_bytes()


def faults(asked: list[Asked], agreed: float) -> list[str]:
    found = [
        f"photos: {one.photo.name} is {answer.best[0].label!r} in {precision}, none of {', '.join(sorted(right))}"
        for one in asked
        for precision, answer in (("fp32", one.fp32), ("int8", one.int8))
        if (right := EXPECTED.get(one.photo.name)) and answer.best[0].label not in right
    ]
    if agreed < REQUIRED_AGREEMENT:
        found.append(f"photos: int8 agrees with fp32 on {agreed:.0%}, below {REQUIRED_AGREEMENT:.0%}")
    return found


def print_table(asked: list[Asked]) -> None:
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    for title in ("photo", "fp32", "", "int8", ""):
        table.add_column(title, no_wrap=True, justify="left" if title else "right")
    for one in asked:
        for line, (fp32, int8) in enumerate(zip(one.fp32.best, one.int8.best, strict=True)):
            table.add_row("" if line else one.photo.name, fp32.label, share(fp32), int8.label, share(int8))
        times = (f"{answer.milliseconds:.1f} ms" for answer in (one.fp32, one.int8))
        table.add_row("", "", next(times), "", next(times))
    print()
    Console(width=max(80, Console().width), highlight=False).print(table)


def share(prediction: Prediction) -> str:
    return f"{prediction.probability:.1%}"

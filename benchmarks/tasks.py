"""Pictures per second of served networks of all tasks over those of the same pipeline in this process.

One network a task is built, or models of a repository that was built are taken: --repository model_repository shapes.
In process, pictures are decoded on as many threads as the served step has, then the artifact runs, then the step behind
it, if there is one. Both get the same encoded bytes in batches of 8; the sides take turns, and medians are compared.
Answers are compared before. --parts also tells where a batch's time goes in process. The case timm has a third side:
timm's own transform and its network in PyTorch, in a process of its own, since frameworks slow each other down in one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tritonclient.grpc as triton
from PIL import Image

from builder.build.reference import make_network
from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.data.recipe import PreprocessRecipe
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.machine.cores import granted_cores
from builder.manifest.models import load_manifest
from builder.repository import layout
from builder.steps import STEPS
from builder.steps.detections import DetectionSettings
from builder.steps.mask import MaskSettings
from builder.triton.model_config import read
from builder.triton.signature import Signature, TensorSpec
from builder.types import Target

BATCH = 8
AT_ONCE = 2  # requests in flight: while one is decoded, the other is in the network
LITE0 = Path(__file__).parent.parent / "examples" / "lite0.py"
RECIPE = "{channels: 3, resize: 256, crop: 224, mean: [0.498, 0.498, 0.498], std: [0.502, 0.502, 0.502]}"
# Random weights find nothing above a detector's own threshold, and all of a picture above none.
CASES = {
    "ssdlite": "task: detection, network: ssdlite320_mobilenet_v3_large, weights: random",
    "fasterrcnn": "task: detection, network: fasterrcnn_mobilenet_v3_large_320_fpn, weights: random",
    "lraspp": "task: segmentation, network: lraspp_mobilenet_v3_large, weights: random",
    "lraspp_png": "task: segmentation, network: lraspp_mobilenet_v3_large, weights: random, encode: png",
    "vit": "network: 'hf:vit'",
    "timm": "network: timm/efficientnet_lite0, weights: random",
    "lite0": f"task: embedding, network: '{LITE0}:lite0', weights: included, layer: _avg_pooling, preprocess: {RECIPE}",
}
SETTINGS = {"pillow": PreprocessRecipe, "pillow_placed": PreprocessRecipe, "mask": MaskSettings,
            "detections": DetectionSettings}  # fmt: skip
Tensors = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of --repository; without it, of {', '.join(CASES)}")
    parser.add_argument("--repository", type=Path, help="one that was built")
    parser.add_argument("--images", type=Path, default=SAMPLES, help="a folder of pictures")
    parser.add_argument("--format", default="onnx", choices=[n for n in EXPORTERS if EXPORTERS[n].PRECISIONS["cpu"]])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="batches of 8 in each round")
    parser.add_argument("--parts", action="store_true", help="seconds of a batch in process, step by step")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        repository = options.repository or built(options, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        ports = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
        server = stack.enter_context(LAUNCHERS["embedded"].launch(repository, ports))
        for model in options.models or list(CASES):
            measure(repository, model, server.endpoints.grpc, options)


def built(options: argparse.Namespace, folder: Path) -> Path:
    """A repository with the cases that are wanted."""
    if "vit" in (options.models or CASES):
        write_snapshot(folder / "vit")
    rows = [f"  {name}: {{format: {options.format}, {CASES[name]}}}" for name in options.models or CASES]
    (folder / "models.yaml").write_text("\n".join(["models:", *rows, ""]))
    outcome = build_repository(resolve(load_manifest(folder / "models.yaml")), folder / "repository")
    for failure in outcome.failed:
        raise failure.error
    return folder / "repository"


def write_snapshot(folder: Path) -> None:
    """DeiT-Tiny's size, as transformers writes it: random weights."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
    ViTForImageClassification(ViTConfig(**sizes, num_labels=1000)).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)


def measure(repository: Path, model: str, url: str, options: argparse.Namespace) -> None:
    pictures = of_one_size(options.images)
    own = Pipeline(repository, model)
    sides: dict[str, Callable[[], Tensors]] = {
        "served": served(url, model, own.outputs, pictures),
        "in_process": lambda: own(pictures),
    }
    with contextlib.ExitStack() as stack:
        if model == "timm" and not options.repository:
            sides["timm"] = stack.enter_context(timms_own(repository.parent / "models.yaml", own.outputs, pictures))
        answer = own(pictures)
        for side in sides.values():
            same(model, side(), answer)
            side()
        own.seconds.clear()
        rates = race(sides, options.rounds, options.batches)
    show(model, rates, own.parts() if options.parts else {}, options.json)


class TimmsOwn:
    """What people run who use timm by itself: its transform, on as many threads, and its network in PyTorch."""

    def __init__(self, manifest: Path) -> None:
        from timm.data import create_transform, resolve_model_data_config

        torch.set_num_threads(granted_cores())
        (entry,) = resolve(load_manifest(manifest), ["timm"])
        self._module = make_network(entry).module
        self._transform = create_transform(**resolve_model_data_config(self._module), is_training=False)
        self._threads = ThreadPoolExecutor(granted_cores())

    def __call__(self, pictures: list[bytes]) -> np.ndarray:
        with torch.inference_mode():
            rows = self._module(torch.stack(list(self._threads.map(self._tensor, pictures))))
            return np.asarray(rows.softmax(1))

    def _tensor(self, picture: bytes) -> torch.Tensor:
        return self._transform(Image.open(io.BytesIO(picture)).convert("RGB"))


in_its_process: list[TimmsOwn] = []


def prepare(manifest: Path) -> None:
    in_its_process.append(TimmsOwn(manifest))


def ask_there(pictures: list[bytes]) -> np.ndarray:
    return in_its_process[0](pictures)


@contextlib.contextmanager
def timms_own(manifest: Path, names: tuple[str, ...], pictures: list[bytes]) -> Iterator[Callable[[], Tensors]]:
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawned, initializer=prepare, initargs=(manifest,)) as process:
        yield lambda: dict.fromkeys(names, process.submit(ask_there, pictures).result(timeout=600))


def of_one_size(folder: Path) -> list[bytes]:
    """Eight pictures: masks of one tensor have one size."""
    by_size: dict[tuple[int, int], list[bytes]] = collections.defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.suffix in (".jpg", ".png"):
            with Image.open(file) as image:
                by_size[image.size].append(file.read_bytes())
    return (max(by_size.values(), key=len) * BATCH)[:BATCH]


def served(url: str, model: str, outputs: tuple[str, ...], pictures: list[bytes]) -> Callable[[], Tensors]:
    client = triton.InferenceServerClient(url)

    def ask() -> Tensors:
        given = triton.InferInput("IMAGE", [BATCH, 1], "BYTES")
        given.set_data_from_numpy(np.array(pictures, object)[:, None])
        answer = client.infer(model, [given], client_timeout=120)
        return {name: answer.as_numpy(name) for name in outputs}

    return ask


@dataclass(frozen=True)
class Stage:
    """One model that the ensemble asks: what it computes, and the ensemble's names of its tensors."""

    name: str
    run: Callable[..., tuple[Any, ...]]
    inputs: list[str]
    outputs: list[str]


class Pipeline:
    """What the ensemble does, in this process: pictures -> the ensemble's outputs."""

    def __init__(self, repository: Path, model: str) -> None:
        config = read(repository / model / "config.pbtxt")
        self.outputs = tuple(tensor.name for tensor in config.output)
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)
        self._stages = [stage(repository, step) for step in config.ensemble_scheduling.step]

    def __call__(self, pictures: list[bytes]) -> Tensors:
        tensors: Tensors = {"IMAGE": pictures}
        for one in self._stages:
            started = time.perf_counter()
            found = one.run(*(tensors[name] for name in one.inputs))
            tensors |= zip(one.outputs, found, strict=True)
            self.seconds[one.name].append(time.perf_counter() - started)
        return {name: tensors[name] for name in self.outputs}

    def parts(self) -> dict[str, float]:
        """Median seconds of a batch."""
        return {name: statistics.median(times) for name, times in self.seconds.items()}


def stage(repository: Path, step: Any) -> Stage:
    config = read(repository / step.model_name / "config.pbtxt")
    inputs, outputs = ([tensor.name for tensor in side] for side in (config.input, config.output))
    is_step = layout.role_of(repository / step.model_name) in layout.STEP_ROLES
    run = of_step(config) if is_step else of_network(repository / step.model_name / str(step.model_version), config)
    return Stage(
        step.model_name, run, [step.input_map[name] for name in inputs], [step.output_map[name] for name in outputs]
    )


def of_step(config: Any) -> Callable[..., tuple[Any, ...]]:
    """A picture at a time, on as many threads as the served step has."""
    given = {tensor.name for tensor in config.output}
    kind = next(name for name, only in (("mask", "MASK"), ("detections", "BOXES"), ("pillow_placed", "PLACEMENT"),
                                        ("pillow", "PIXELS")) if only in given)  # fmt: skip
    parameters = config.parameters
    settings = SETTINGS[kind].model_validate_json(parameters["recipe"].string_value)
    function = STEPS[kind].function(settings)
    pool = ThreadPoolExecutor(int(parameters["threads"].string_value))

    def run(*columns: Any) -> tuple[Any, ...]:
        rows = list(pool.map(function, *columns))
        if kind == "detections":
            return filled(rows, settings.max_detections)
        if kind == "pillow_placed":
            return tuple(np.stack(column) for column in zip(*rows, strict=True))
        return (np.array(rows, object)[:, None] if isinstance(rows[0], bytes) else np.stack(rows),)

    return run


def filled(rows: list[Any], most: int) -> tuple[np.ndarray, ...]:
    """What was found of each picture as tensors of one size, as clients get it."""
    boxes, scores = np.zeros((len(rows), most, 4), np.float32), np.zeros((len(rows), most), np.float32)
    classes, counts = np.zeros((len(rows), most), np.int32), np.zeros((len(rows), 1), np.int32)
    for row, (box, score, kind) in enumerate(rows):
        boxes[row, : len(box)], scores[row, : len(box)], classes[row, : len(box)] = box, score, kind
        counts[row] = len(box)
    return boxes, scores, classes, counts


def of_network(folder: Path, config: Any) -> Callable[..., tuple[Any, ...]]:
    """The published artifact, with as many threads as the server gives it."""
    signature = Signature(*map(tuple, sides_of(config)))
    file = folder / config.default_model_filename
    exporter = next(one for one in EXPORTERS.values() if file.name == one.FILENAME)
    run = exporter.load(file, Target(threads=granted_cores()), signature)

    def ask(*arrays: Any) -> tuple[Any, ...]:
        names = (tensor.name for tensor in signature.inputs)
        found: Mapping[str, torch.Tensor] = run(dict(zip(names, map(torch.from_numpy, arrays), strict=True)))
        return tuple(found[tensor.name].numpy() for tensor in signature.outputs)

    return ask


def sides_of(config: Any) -> Iterator[list[TensorSpec]]:
    kinds = type(config).DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    for side in (config.input, config.output):
        yield [
            TensorSpec(t.name, kinds.values_by_number[t.data_type].name.removeprefix("TYPE_"), tuple(t.dims))
            for t in side
        ]


def same(model: str, ours: Tensors, theirs: Tensors) -> None:
    """Sides that give different things are not to be compared."""
    for name, array in ours.items():
        other = theirs[name]
        is_close = array.shape == other.shape and (
            np.mean(array == other) > 0.999
            if array.dtype.kind in "uiO"
            else np.allclose(array, other, atol=0.5 if name == "BOXES" else 1e-3)
        )
        if not is_close:
            raise SystemExit(f"{model}: the server gives another {name} than its steps do in this process")


def race(sides: dict[str, Callable[[], object]], rounds: int, batches: int) -> dict[str, list[float]]:
    """Pictures per second of each side, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, ask in sides.items():
            with ThreadPoolExecutor(AT_ONCE if name == "served" else 1) as pool:
                started = time.perf_counter()
                for answer in [pool.submit(ask) for _ in range(batches)]:
                    answer.result(timeout=600)
            rates[name].append(batches * BATCH / (time.perf_counter() - started))
    return rates


def show(model: str, rates: dict[str, list[float]], parts: dict[str, float], as_json: bool) -> None:
    ours, theirs = (statistics.median(rates[side]) for side in ("served", "in_process"))
    if as_json:
        print(json.dumps({"model": model, "rates": rates, "ratio": ours / theirs, "parts": parts}), flush=True)
        return
    print(f"{model:12} served {ours:6.1f}/s  in process {theirs:6.1f}/s  ratio {ours / theirs:.2f}", flush=True)
    if "timm" in rates:
        alone = statistics.median(rates["timm"])
        print(f"{'':12} timm alone {alone:6.1f}/s  ratio {ours / alone:.2f}", flush=True)
    for name, seconds in parts.items():
        print(f"  {seconds * 1e3:7.1f} ms  {name}")


if __name__ == "__main__":
    main()

"""What a build costs over the bare export: wall time and peak memory, measured in one run.

For each network, in a process of its own: the bare export (torchvision's constructor with the same
weights file, then the exporter alone), and `build-repo`'s way without verification, which neither side
of the time has. Memory is the peak of a whole `build-repo build`, verification included, in
multiples of the weights, after the bare import of torch and torchvision is taken off.

With `--jobs N`: the networks, random weights, verification included, built one at a time in one process and N at a
time in processes of their own, in turns.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from builder.data.images import SAMPLES, Tensors, find
from builder.data.recipe import IMAGENET

NETWORKS = ("alexnet", "vgg16", "googlenet")
MIB = 1024
FRAMEWORKS = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--format", default="torchscript")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="compare this many models at a time with one at a time")
    parser.add_argument("--step", choices=[*STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step](options.folder, options.networks[0], options.format, options.precision)))
        return
    if options.jobs:
        race_jobs(options.networks, (options.format, options.precision), options.jobs, options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(Path(folder), name, (options.format, options.precision), options.rounds)
            for name in options.networks
        ]
    totals = {key: sum(row[key] for row in rows) for key in ("export_s", "build_s")}
    print(f"all          build {totals['build_s']:.2f} s / bare export {totals['export_s']:.2f} s", end=" ")
    print(f"= {totals['build_s'] / totals['export_s']:.2f}")


def measure(folder: Path, network: str, variant: tuple[str, str], rounds: int) -> dict[str, float]:
    run(folder, network, variant, "save_weights")
    bare = run(folder, network, variant, "import_only")["peak_mib"]
    exports, builds = [], []
    for _ in range(rounds):  # taking turns
        exports.append(run(folder, network, variant, "bare_export"))
        builds.append(run(folder, network, variant, "build"))
    row = {
        "export_s": min(r["seconds"] for r in exports),
        "build_s": min(r["seconds"] - r["verification"] for r in builds),
        "peak": max(r["peak_mib"] for r in builds) - bare,
        "weights": (folder / f"{network}.pth").stat().st_size / 2**20,
    }
    print(
        f"{network:12} build {row['build_s']:.2f} s / bare export {row['export_s']:.2f} s = "
        f"{row['build_s'] / row['export_s']:.2f}; memory {row['peak']:.0f} MiB over the import "
        f"= {row['peak'] / row['weights']:.2f} x weights ({row['weights']:.0f} MiB)",
        flush=True,
    )
    return row


def race_jobs(networks: list[str], variant: tuple[str, str], jobs: int, rounds: int) -> None:
    seconds: dict[int, list[float]] = {1: [], jobs: []}
    with tempfile.TemporaryDirectory() as folder:
        keys = f"weights: random, format: {variant[0]}, precision: {variant[1]}, calibration: {SAMPLES}"
        entries = "".join(f"  {name}: {{{keys}, tolerance: {{top1_agreement: 0}}}}\n" for name in networks)
        Path(folder, "models.yaml").write_text(f"models:\n{entries}")
        for turn in range(rounds):
            for number in seconds:
                command = [sys.executable, "-m", "builder", "-j", str(number), "-r", f"{folder}/{turn}-{number}"]
                started = time.perf_counter()
                subprocess.run([*command, "-m", f"{folder}/models.yaml"], check=True, capture_output=True)
                seconds[number].append(time.perf_counter() - started)
    one, several = min(seconds[1]), min(seconds[jobs])
    print(
        f"{len(networks)} networks: {jobs} at a time {several:.1f} s / one at a time {one:.1f} s = {several / one:.2f}"
    )


def run(folder: Path, network: str, variant: tuple[str, str], step: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--networks", network]
    command += ["--format", variant[0], "--precision", variant[1]]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def arguments_of(network: str) -> dict[str, bool]:
    return {"aux_logits": False, "init_weights": False} if network == "googlenet" else {}


def save_weights(folder: Path, network: str, *_: str) -> dict[str, float]:
    import torch
    import torchvision

    torch.save(getattr(torchvision.models, network)(**arguments_of(network)).state_dict(), folder / f"{network}.pth")
    return {}


def import_only(_: Path, __: str, format_name: str, ___: str) -> dict[str, float]:
    import torch
    import torchvision

    del torch, torchvision
    for package in FRAMEWORKS.get(format_name, ()):
        importlib.import_module(package)
    return {"peak_mib": peak_mib()}


def bare_export(folder: Path, network: str, format_name: str, precision: str) -> dict[str, float]:
    """As the articles' readers would do it by hand."""
    import torch
    import torchvision

    from builder.exporters import EXPORTERS
    from builder.tasks.classification.study import as_classifier
    from builder.tasks.images.samples import ImageCalibration
    from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec
    from builder.types import ExportRequest, Target

    started = time.perf_counter()
    module = getattr(torchvision.models, network)(**arguments_of(network))
    module.load_state_dict(torch.load(folder / f"{network}.pth", weights_only=True))
    module = as_classifier(module.eval(), "softmax")
    (folder / "bare").mkdir(exist_ok=True)
    path = folder / "bare" / EXPORTERS[format_name].FILENAME
    example = torch.rand(2, 3, 224, 224)
    given, answer = TensorSpec(NETWORK_INPUT, "FP32", (3, 224, 224)), TensorSpec(NETWORK_OUTPUT, "FP32", (1000,))
    signature, calibration = Signature((given,), (answer,)), ImageCalibration(photos(), given.name)
    request = ExportRequest(module, signature, {given.name: example}, path, Target(precision), calibration)
    EXPORTERS[format_name].export(request)
    return {"seconds": time.perf_counter() - started, "peak_mib": peak_mib()}


def build(folder: Path, network: str, format_name: str, precision: str) -> dict[str, float]:
    import torch
    import torchvision

    from builder.build import run as story
    from builder.manifest.models import load_manifest

    del torch, torchvision
    manifest = folder / "models.yaml"
    keys = f"format: {format_name}, precision: {precision}, calibration: {SAMPLES}, tolerance: {{top1_agreement: 0}}"
    manifest.write_text(f"models:\n  {network}: {{weights: {network}.pth, {keys}}}\n")
    (entry,) = story.resolve(load_manifest(manifest))
    seen: list[tuple[str, float]] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as repository:
        story.build_model(entry, Path(repository, "models"), lambda step: seen.append((step, time.perf_counter())))
        ended = time.perf_counter()
    ends = [moment for _, moment in seen[1:]] + [ended]
    checks = ("preprocessing the evaluation images", "running the network", "verifying")
    verification = sum(end - start for (step, start), end in zip(seen, ends, strict=True) if step in checks)
    return {"seconds": ended - started, "verification": verification, "peak_mib": peak_mib()}


def photos() -> Tensors:
    """What both sides calibrate int8 with."""
    return Tensors(find(None, Path()), IMAGENET)


STEPS = {f.__name__: f for f in (save_weights, import_only, bare_export, build)}

if __name__ == "__main__":
    main()

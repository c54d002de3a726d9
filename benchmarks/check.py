"""How long `build-repo check` takes over many models, beside the real server that loads or refuses them, in turns.

The models are of several kinds, one in twenty an ensemble, one in a hundred broken. The server has stand-ins for its
backends, so that nothing but its own look at the repository is timed: with real ones it takes longer.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from builder.launchers.runtime import Bare, bare

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the stand-ins, and small artifacts

import stand_ins

TENSORS = """
input [{ name: "x" data_type: TYPE_FP32 dims: [ 3, 4 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 3, 4 ] }]
"""
BATCHED = "max_batch_size: 8\n" + TENSORS
CODE = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        outputs = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", each)]) for each in outputs]
"""
IR = """<?xml version="1.0"?>
<net name="small" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="?,3,4" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>-1</dim><dim>3</dim><dim>4</dim></port></output></layer>
<layer id="1" name="relu" type="ReLU" version="opset1">
<input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim><dim>4</dim></port></input>
<output><port id="1" precision="FP32" names="y"><dim>-1</dim><dim>3</dim><dim>4</dim></port></output></layer>
<layer id="2" name="y/sink_port_0" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>-1</dim><dim>3</dim><dim>4</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, bare() as runtime:
        backends = stand_ins.backends(Path(folder) / "backends", (*stand_ins.NAMES, "python"))
        for count in options.models:
            race(repository(Path(folder) / str(count), count), runtime, backends, count, options.rounds)
    help_beside_nothing(options.rounds)


def race(models: Path, runtime: Bare, backends: Path, count: int, rounds: int) -> None:
    ours, theirs, peaks, computed = [], [], [], []
    for _ in range(rounds):
        seconds, used = checked(models)
        ours.append(seconds)
        peaks.append(used.ru_maxrss // 1024)
        computed.append(used.ru_utime + used.ru_stime)
        theirs.append(timed(lambda: served(models, runtime, backends)))
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"{count:5} models: check {mine:.2f} s ({statistics.median(computed):.2f} s of a core), {max(peaks)} MB / "
        f"the server refuses them {other:.2f} s = {mine / other:.2f}",
        flush=True,
    )


def checked(models: Path) -> tuple[float, resource.struct_rusage]:
    """Seconds, and what it used."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "builder", "check", str(models), "--json", "--target", "24.10"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # opened as a pipe
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1) or not output:
        sys.exit(f"check ended with {process.returncode}")
    return seconds, used


def served(models: Path, runtime: Bare, backends: Path) -> None:
    """Until the server has refused the repository, as it ends with --exit-on-error, its default."""
    command = [
        *(str(runtime.binary), f"--model-repository={models}", f"--backend-directory={backends}"),
        *("--http-address=127.0.0.1", "--http-port=0", "--allow-grpc=false", "--allow-metrics=false"),
        *("--exit-timeout-secs=1", "--log-info=false", "--log-warning=false", "--log-error=false"),
    ]
    done = subprocess.run(command, env=runtime.environment, capture_output=True, timeout=600, check=False)
    if done.returncode == 0:
        sys.exit("the server refused nothing")


def help_beside_nothing(rounds: int) -> None:
    """`build-repo --help`, whose commands are one more, over an interpreter that does nothing."""
    ours, bare_python = [], []
    for _ in range(3 * rounds):
        ours.append(timed(lambda: run("-m", "builder", "--help")))
        bare_python.append(timed(lambda: run("-c", "pass")))
    mine, other = statistics.median(ours), statistics.median(bare_python)
    print(f"build-repo --help {mine:.3f} s / python -c pass {other:.3f} s = {mine / other:.1f}")


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


# --- the models ---


def repository(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    onnx = folder.parent / "small.onnx"
    if not onnx.exists():
        write_onnx(onnx)
    makers: Sequence[Callable[[Path], str]] = (of_python, lambda at: of_onnx(at, onnx), of_openvino, of_custom)
    for number in range(count):
        name = f"model_{number:05}"
        version = folder / name / "1"
        version.mkdir(parents=True)
        is_ensemble = number % 20 == 19
        config = of_ensemble(name, number) if is_ensemble else makers[number % 4](version) + extra(number)
        if is_ensemble:
            (version / "keep").touch()
        if number % 100 == 50:
            config = config.replace("dims: [ 3, 4 ]", "dims: [ 3, 0 ]", 1)
        (folder / name / "config.pbtxt").write_text(config)
    return folder


def of_python(version: Path) -> str:
    (version / "model.py").write_text(CODE)
    return f'backend: "python"\n{BATCHED}instance_group [{{ kind: KIND_CPU count: 1 }}]\n'


def of_onnx(version: Path, file: Path) -> str:
    os.link(file, version / "model.onnx")
    return f'backend: "onnxruntime"\nplatform: "onnxruntime_onnx"\n{BATCHED}'


def of_openvino(version: Path) -> str:
    (version / "model.xml").write_text(IR)
    (version / "model.bin").touch()
    return f'backend: "openvino"\ndefault_model_filename: "model.xml"\n{BATCHED}'


def of_custom(version: Path) -> str:
    (version / "keep").touch()
    return f'backend: "custom"\n{TENSORS}parameters {{ key: "a" value {{ string_value: "b" }} }}\n'


def extra(number: int) -> str:
    """Schedulers for some of those that batch."""
    if number % 4 == 3:
        return ""
    return "dynamic_batching { max_queue_delay_microseconds: 100 }\n" if number % 3 else ""


def of_ensemble(name: str, number: int) -> str:
    steps = "".join(
        f'step {{ model_name: "model_{number - 19 + step:05}" model_version: -1\n'
        f'  input_map {{ key: "x" value: "{source}" }} output_map {{ key: "y" value: "{target}" }} }}\n'
        for step, source, target in ((0, "x", "between"), (2, "between", "y"))
    )
    return f'name: "{name}"\nplatform: "ensemble"\n{BATCHED}ensemble_scheduling {{\n{steps}}}\n'


def write_onnx(file: Path) -> None:
    from onnx import TensorProto, helper, save

    shape = ["batch", 3, 4]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "small", tensors[:1], tensors[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


if __name__ == "__main__":
    main()

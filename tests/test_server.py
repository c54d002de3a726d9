"""The real server: what clients get from it, and what it leaves behind."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import ANY_PORTS, LABELS, VARIANTS, build, model_of
from load import BATCH, in_flight, over_grpc
from PIL import Image
from predicting import probabilities_of
from processes import started
from tritonclient.utils import InferenceServerException

from builder.data.images import SAMPLES
from builder.data.recipe import PreprocessRecipe
from builder.errors import LaunchError, ModelLoadError, ServerEnded
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.launchers.embedded import has_gpu
from builder.launchers.options import LaunchOptions
from builder.steps import proof
from builder.triton import model_config
from builder.types import Endpoints, Target
from client import Client, ClientError, InvalidInput

PHOTOS = sorted(SAMPLES.glob("*.jpg"))
LABELLED = [model_of(*variant) for variant in VARIANTS]
MODELS = [*LABELLED, "unlabelled"]


def recipe_of(repository: Path, model: str) -> tuple[str, PreprocessRecipe]:
    steps = model_config.read(repository / model / "config.pbtxt").ensemble_scheduling.step
    parameters = model_config.read(repository / steps[0].model_name / "config.pbtxt").parameters
    return steps[0].model_name, PreprocessRecipe.model_validate_json(parameters["recipe"].string_value)


def expected_probabilities(repository: Path, model: str, photos: list[Path]) -> np.ndarray:
    """Reference transform, then the artifact, in this process."""
    network = model_config.read(repository / model / "config.pbtxt").ensemble_scheduling.step[1].model_name
    facts = model_config.read(repository / network / "config.pbtxt").parameters
    exporter = EXPORTERS[facts["format"].string_value]
    _, recipe = recipe_of(repository, model)
    images = torch.stack([recipe.reference_transform()(recipe.decode(photo)) for photo in photos])
    artifact = repository / network / "1" / exporter.FILENAME
    target = Target(facts["precision"].string_value)
    return probabilities_of(facts["format"].string_value, artifact, target, images).numpy().copy()


@pytest.mark.parametrize("model", MODELS)
def test_photo_to_probabilities(model: str, client: Client, repository: Path) -> None:
    probabilities = client.probabilities(PHOTOS, model)
    expected = expected_probabilities(repository, model, PHOTOS)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("model", LABELLED)
def test_labels_come_with_the_classes(model: str, client: Client, repository: Path) -> None:
    for photo in PHOTOS:
        (row,) = expected_probabilities(repository, model, [photo])
        predictions = client.classify(photo, model, top=3)
        assert [p.class_id for p in predictions] == list(np.argsort(-row, kind="stable"))
        assert [p.label for p in predictions] == [LABELS[p.class_id] for p in predictions]
        np.testing.assert_allclose([p.probability for p in predictions], np.sort(row)[::-1], atol=2e-6)


def test_classes_without_labels_are_numbers(client: Client) -> None:
    assert all(p.label == str(p.class_id) for p in client.classify(PHOTOS[0], "unlabelled"))


@pytest.mark.parametrize("model", ["torchscript_model", "unlabelled"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_served_tensor_is_torchvisions_to_the_last_bit(
    model: str, mode: str, server: Endpoints, repository: Path
) -> None:
    step, recipe = recipe_of(repository, model)
    image = Image.open(PHOTOS[1]).convert(mode).resize((200, 150), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    with triton_grpc.InferenceServerClient(server.grpc) as connection:
        served = served_tensor(connection, step, buffer.getvalue())
    decoded = Image.open(io.BytesIO(buffer.getvalue())).convert("L" if recipe.channels == 1 else "RGB")
    assert served.tobytes() == recipe.reference_transform()(decoded).numpy().tobytes()


def served_tensor(connection: triton_grpc.InferenceServerClient, step: str, data: bytes) -> np.ndarray:
    tensor = triton_grpc.InferInput("IMAGE", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data]], dtype=np.object_))
    found: np.ndarray = connection.infer(step, [tensor]).as_numpy("PIXELS")[0]
    return found


def test_the_server_sees_what_people_do(server: Endpoints, repository: Path) -> None:
    """Orientation, grey levels of 16 bits, transparency, and further frames, which are the sender's fault."""
    step, recipe = recipe_of(repository, "torchscript_model")
    transform, mode = recipe.reference_transform(), "L" if recipe.channels == 1 else "RGB"
    with triton_grpc.InferenceServerClient(server.grpc) as connection:
        for probe in proof.probes(recipe):
            if probe.seen is None:
                with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*; send"):
                    served_tensor(connection, step, probe.data)
            else:
                expected = transform(Image.fromarray(probe.seen).convert(mode)).numpy()
                assert served_tensor(connection, step, probe.data).tobytes() == expected.tobytes(), probe.name


def as_json(message: Any) -> Any:
    return message if isinstance(message, dict) else json.loads(json.dumps(message))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("suffix", ["", "_network"])
@pytest.mark.parametrize("model", ["torchscript_model", "onnx_model"])
def test_client_that_knows_only_metadata(
    model: str, suffix: str, protocol: str, server: Endpoints, client: Client
) -> None:
    """Finds out what to send as NVIDIA's sample image clients do, by their rules."""
    name = model + (f"_{model.removesuffix('_model')}" if suffix else "")
    library: Any = triton_grpc if protocol == "grpc" else triton_http
    connection = library.InferenceServerClient(getattr(server, protocol))
    if protocol == "grpc":
        meta = connection.get_model_metadata(name, as_json=True)
        model_config = connection.get_model_config(name, as_json=True)["config"]
    else:
        meta, model_config = connection.get_model_metadata(name), connection.get_model_config(name)
    assert len(meta["inputs"]) == len(meta["outputs"]) == len(model_config["input"]) == 1
    assert meta["outputs"][0]["datatype"] == "FP32"
    assert model_config["max_batch_size"] > 0
    wanted, shape = meta["inputs"][0], [int(side) for side in meta["inputs"][0]["shape"]]
    assert [int(side) for side in meta["outputs"][0]["shape"]] == [-1, 3]
    data: np.ndarray[Any, Any]
    if wanted["datatype"] == "BYTES":
        assert shape == [-1, 1]
        data = np.array([[PHOTOS[0].read_bytes()]], dtype=np.object_)
    else:
        assert model_config["input"][0]["format"] == "FORMAT_NCHW"
        assert shape[0] == -1
        assert len(shape) == 4
        data = np.full([1, *shape[1:]], 0.5, np.float32)
    tensor = library.InferInput(wanted["name"], list(data.shape), wanted["datatype"])
    tensor.set_data_from_numpy(data)
    output = meta["outputs"][0]["name"]
    result = connection.infer(name, [tensor], outputs=[library.InferRequestedOutput(output, class_count=2)])
    rows = result.as_numpy(output)
    connection.close()
    assert rows.shape == (1, 2)
    value, index, label = rows[0][0].decode().split(":", 2)
    assert 0 < float(value) <= 1
    assert label == LABELS[int(index)]
    if not suffix:
        assert client.classify(PHOTOS[0], name)[0].label == label


def test_batches_answer_as_single_images_do(client: Client) -> None:
    batch = client.probabilities([PHOTOS[i % 4] for i in range(8)], "torchscript_model")
    singles = np.concatenate([client.probabilities([photo], "torchscript_model") for photo in PHOTOS])
    np.testing.assert_allclose(batch, np.tile(singles, (2, 1)), atol=1e-6)


BAD = {
    b"": "empty",
    b"nonsense": "not an image",
    PHOTOS[0].read_bytes()[:5000]: "cannot be decoded",
}


@pytest.mark.parametrize("data", BAD, ids=BAD.values())
def test_bad_image_is_an_invalid_argument(data: bytes, client: Client) -> None:
    with pytest.raises(InvalidInput, match=BAD[data]):
        client.classify(data, "torchscript_model")


def test_recipes_limits_hold_on_the_server(client: Client) -> None:
    buffer = io.BytesIO()
    Image.new("L", (600, 500)).save(buffer, "PNG")
    with pytest.raises(InvalidInput, match="600x500; at most 250000 pixels"):
        client.classify(buffer.getvalue(), "unlabelled")
    with pytest.raises(InvalidInput, match="at most 100000 are accepted"):
        client.classify(b"\xff" * 100_001, "unlabelled")


def test_bad_image_in_a_batch_is_told_apart(client: Client) -> None:
    with pytest.raises(InvalidInput, match="image 2 of 3"):
        client.classify_batch([PHOTOS[0], b"bad", PHOTOS[1]], "torchscript_model")


def test_bad_requests_do_not_harm_those_beside_them(client: Client) -> None:
    images = [PHOTOS[i // 2 % 4].read_bytes() if i % 2 else b"bad %d" % i for i in range(60)]
    results = list(client.classify_many(images, "torchscript_model", concurrency=16))
    assert [result.image for result in results] == images
    for i, result in enumerate(results):
        if i % 2:
            assert result.predictions == client.classify(images[i], "torchscript_model")
        else:
            assert isinstance(result.error, InvalidInput)


def test_tensors_of_the_wrong_shape_are_refused(server: Endpoints) -> None:
    with triton_grpc.InferenceServerClient(server.grpc) as connection:
        for shape in ([1, 3, 31, 32], [9, 3, 32, 32]):
            tensor = triton_grpc.InferInput("INPUT__0", shape, "FP32")
            tensor.set_data_from_numpy(np.zeros(shape, np.float32))
            with pytest.raises(InferenceServerException) as caught:
                connection.infer("torchscript_model_torchscript", [tensor])
            assert "INVALID_ARGUMENT" in str(caught.value.status())


def test_metrics_are_there(server: Endpoints) -> None:
    with urllib.request.urlopen(server.metrics) as response:
        assert b"nv_inference_request_success" in response.read()


def test_bursts_do_not_wait_for_a_lost_wake_up(client: Client) -> None:
    """With a queue policy this server makes some requests of a burst wait for 500 ms each."""
    for model in MODELS:
        for _ in range(30):
            burst = client.classify_many([PHOTOS[0]] * 4, model, concurrency=4, batch_size=1)
            assert not any(result.error for result in burst)
    (stepped,) = client.statistics("torchscript_model_torchscript")  # the server's own clock, not this busy machine's
    assert stepped.queue.ns / stepped.queue.count < 250e6


def test_repository_is_not_written_to(server: Endpoints, repository: Path) -> None:
    del server
    assert not list(repository.rglob("__pycache__"))


# --- launching and stopping ---


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    build(folder, "models:\n  lenet: {weights: random, format: onnx}\n")
    return folder / "repository"


def traces() -> set[Path]:
    """The shared memory and runtime folders of all embedded servers on this machine, other tests' too."""
    folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))
    return {path for folder in folders for path in folder.glob("build-repo-*")}


def of_process(pid: int) -> set[Path]:
    """Those that the process's command names."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return set()
    return {path for path in traces() if "-".join(path.name.split("-")[:3]) in command}


def leftovers() -> set[Path]:
    """Those that no process has anything to do with."""
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return traces().difference(*map(of_process, processes))


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Bounded waiting for other processes; the bound is far above what is seen."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def serving(tiny: Path, tmp_path: Path) -> Iterator["Serving"]:
    """`build-repo serve` as a process, from another working directory; and the files that are its own."""
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    command = [sys.executable, "-m", "builder", "serve", "-r", str(tiny), "--json", *ports]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        yield process, ready, set().union(*map(of_process, descendants(process.pid)))


Serving = tuple[subprocess.Popen[str], dict[str, Any], set[Path]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly_and_answers_what_is_in_flight(number: signal.Signals, serving: Serving) -> None:
    process, ready, _ = serving
    processes = descendants(process.pid)
    assert len(processes) >= 4  # guard, server, two stubs
    answered: list[int | ClientError] = []
    with Client(ready["grpc"], retries=0) as client:
        model = client.classifier().name

        def ask() -> None:
            try:
                answered.append(len(client.classify_batch([PHOTOS[0]] * 8, model)))
            except ClientError as error:  # compared below; raised in a thread it would only be printed
                answered.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        # In flight is what the server has taken in; its own count tells.
        assert until(lambda: received(ready["metrics"]) >= 8), answered
        process.send_signal(number)
        for thread in threads:
            thread.join(60)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert answered == [8] * 8
    assert "Traceback" not in errors
    assert not [pid for pid in processes if is_alive(pid)]


def test_a_stop_fails_no_request_that_is_between_two_steps(serving: Serving) -> None:
    process, ready, _ = serving
    with Client(ready["grpc"], retries=0) as client:
        answers = in_flight(over_grpc(client), process.terminate)
    assert process.wait(60) == 0
    assert answers
    assert set(answers) == {BATCH}


def test_temporary_files_of_models_go_with_a_server_that_is_killed(serving: Serving) -> None:
    process, _, _ = serving
    servers = [pid for pid in descendants(process.pid) if "stub\0" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert servers
    for pid in servers:
        given = dict(one.split("=", 1) for one in Path(f"/proc/{pid}/environ").read_text().split("\0") if one)
        (Path(given["TMPDIR"]) / f"of {pid}").touch()
        os.kill(pid, signal.SIGKILL)
    process.terminate()
    process.communicate(timeout=90)
    assert not Path(given["TMPDIR"]).exists()


def received(metrics: str) -> int:
    """Requests that the preprocessing step holds or has done, its warm-up left out."""
    try:
        with urllib.request.urlopen(metrics) as response:
            text = response.read().decode()
    except OSError:  # a busy server may reset the connection; whoever waits asks again
        return 0
    lines = [line for line in text.splitlines() if 'model="preprocess' in line]
    counts = ("nv_inference_request_success", "nv_inference_pending_request_count")
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(counts)))


@pytest.mark.parametrize("victim", ["launcher", "guard", "server"])
def test_nothing_is_orphaned_when_something_is_killed(victim: str, serving: Serving) -> None:
    process, _, own = serving
    assert len(own) >= 3  # a runtime folder, and shared memory for each stub
    processes = descendants(process.pid)
    guard = next(pid for pid in processes if "guard.py" in Path(f"/proc/{pid}/cmdline").read_text())
    server = next(pid for pid in processes if "tritonserver\0" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill({"launcher": process.pid, "guard": guard, "server": server}[victim], signal.SIGKILL)
    if victim != "launcher":
        _, errors = process.communicate(timeout=90)
        assert process.returncode == ServerEnded.exit_code
        assert "the server ended by itself" in errors
        assert "Traceback" not in errors
    assert until(lambda: not [pid for pid in processes if is_alive(pid)])
    assert until(lambda: not traces() & own)


@pytest.mark.skipif(has_gpu(), reason="the message is for machines without a GPU")
def test_gpu_model_without_a_gpu_says_what_to_do(tmp_path: Path) -> None:
    build(tmp_path, "models:\n  lenet: {weights: random, device: gpu}\n")
    with pytest.raises(ModelLoadError, match=r"lenet_torchscript: .*no GPUs are available; build it with"):
        LAUNCHERS["embedded"].launch(tmp_path / "repository", ANY_PORTS)


def test_taken_port_is_named(tiny: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"127.0.0.1:{port}.*--grpc-port, or 0 for a free one"):
            LAUNCHERS["embedded"].launch(tiny, LaunchOptions(http_port=0, grpc_port=port, metrics_port=0))


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_to_serve(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    if exists:
        folder.mkdir()
    with pytest.raises(LaunchError, match="build"):
        LAUNCHERS["embedded"].launch(folder, ANY_PORTS)


def broken(tiny: Path, tmp_path: Path, model: str, file: str, content: bytes) -> Path:
    copy = tmp_path / "broken"
    shutil.copytree(tiny, copy)
    next(copy.glob(f"{model}/{file}")).write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("model", "file", "content", "reason"),
    [
        ("lenet_onnx", "1/model.onnx", b"not a graph", "cannot load lenet_onnx.*INVALID_PROTOBUF"),
        ("lenet_onnx", "warmup/*", b"short", "cannot load lenet_onnx.*warmup setting expects"),
        ("preprocess_*", "1/model.py", b"import no_such_package", "No module named 'no_such_package'"),
        ("lenet", "config.pbtxt", b'name: "lenet" platform: "ensemble"', "cannot load lenet"),
    ],
    ids=["artifact", "warmup", "preprocess", "ensemble"],
)
def test_model_that_does_not_load_is_reported_with_the_servers_reason(
    model: str, file: str, content: bytes, reason: str, tiny: Path, tmp_path: Path
) -> None:
    left = leftovers()
    unchecked = replace(ANY_PORTS, verify_integrity=False)  # which would see that it is not what was built
    with pytest.raises(ModelLoadError) as caught:
        LAUNCHERS["embedded"].launch(broken(tiny, tmp_path, model, file, content), unchecked)
    assert re.search(reason, str(caught.value), re.DOTALL), str(caught.value)
    assert until(lambda: not leftovers() - left)

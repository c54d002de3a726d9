"""repo-client top."""

import csv
import dataclasses
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import warm
from fake_triton import FakeTriton, serving
from hypothesis import given
from hypothesis import strategies as st
from processes import started
from rich.console import Console

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import Client
from client.monitoring import keys, metrics
from client.monitoring.frames import Frame, ModelFrame, Reading, between
from client.monitoring.log import COLUMNS
from client.monitoring.machine import Gpus, cpu_and_memory
from client.monitoring.metrics import Gpu
from client.monitoring.reading import Reader
from client.monitoring.view import plain_lines, render
from client.types import ModelStatistics, Spent

PHOTO = SAMPLES / "coffee.jpg"
Fake = tuple[FakeTriton, str]
GIB = 1024**3

counts = st.integers(0, 10**12)
spent = st.builds(Spent, counts, counts)
statistics = st.builds(
    ModelStatistics,
    name=st.just("pets"),
    version=st.just("1"),
    inferences=counts,
    executions=counts,
    **dict.fromkeys(("success", "failure", "queue", "compute_input", "compute_infer", "compute_output"), spent),
)
readings = st.builds(lambda model: Reading(0.0, {("pets", "1"): model}), statistics)


# --- the arithmetic ---


@given(readings, statistics, st.floats(0.01, 1e4))
def test_rates_times_the_interval_are_what_happened(before: Reading, now: ModelStatistics, seconds: float) -> None:
    (frame,) = between(before, Reading(seconds, {("pets", "1"): now}), {}).models
    then = before.models["pets", "1"]
    happened = [
        (frame.requests_per_s, then.success.count, now.success.count),
        (frame.failures_per_s, then.failure.count, now.failure.count),
        (frame.images_per_s, then.inferences, now.inferences),
    ]
    for rate, old, new in happened:
        # A counter that went back belongs to a server that was started anew.
        assert rate * seconds == pytest.approx(new - old if new >= old else new)
    assert (frame.requests, frame.failures) == (now.success.count, now.failure.count)


@given(readings, statistics)
def test_means_are_of_the_interval_alone_and_never_negative(before: Reading, now: ModelStatistics) -> None:
    (frame,) = between(before, Reading(1.0, {("pets", "1"): now}), {}).models
    for value in (frame.queue_ms, frame.compute_ms, frame.batch):
        assert value is None or value >= 0
    then = before.models["pets", "1"].queue
    if now.queue.count > then.count and now.queue.ns >= then.ns:
        assert frame.queue_ms == pytest.approx((now.queue.ns - then.ns) / (now.queue.count - then.count) / 1e6)


def model(name: str, requests: int = 0, inferences: int = 0, executions: int = 0) -> ModelStatistics:
    return ModelStatistics(name, "1", inferences, executions, Spent(requests), *[Spent()] * 5)


def reading(seconds: float, *models: ModelStatistics) -> Reading:
    return Reading(seconds, {(item.name, item.version): item for item in models})


def test_a_model_that_has_just_come_counts_from_nothing() -> None:
    (frame,) = between(reading(0), reading(2, model("pets", requests=10)), {}).models
    assert frame.requests_per_s == 5


def test_an_ensemble_shows_the_batches_of_its_last_step() -> None:
    before = reading(0, model("pets"), model("decode"), model("pets_onnx"))
    now = reading(1, model("pets", 8, 8, 8), model("decode", 8, 8, 8), model("pets_onnx", 8, 8, 2))
    frames = between(before, now, {"pets": ("decode", "pets_onnx")}, hidden=("decode", "pets_onnx")).models
    assert [(frame.model, frame.batch) for frame in frames] == [("pets", 4.0)]


def test_the_busiest_come_first() -> None:
    now = reading(1, model("a"), model("b", 1), model("c", 9))
    assert [frame.model for frame in between(reading(0), now, {}).models] == ["c", "b", "a"]


def test_an_ensembles_quantiles_are_under_version_1() -> None:
    """Whichever version is served; a network's are its own version's, or none."""
    found = metrics.Metrics({("pets", "1"): {"p50_ms": 5.0, "p99_ms": 9.0}, ("net", "1"): {"p50_ms": 1.0}})
    second = [dataclasses.replace(model(name), version="2") for name in ("pets", "net")]
    now = dataclasses.replace(reading(1, *second), metrics=found)
    frames = between(reading(0), now, {"pets": ("net",), "net": ()}).models
    assert {frame.model: (frame.p50_ms, frame.p99_ms) for frame in frames} == {"pets": (5.0, 9.0), "net": (None, None)}


# --- the machine ---


class Nvml:
    """Two GPUs, of which the second is a slice that tells little."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.is_open = False

    def nvmlInit(self) -> None:  # noqa: N802
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        told = {
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda _: b"Large",
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=3 * GIB, total=80 * GIB),
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=87),
            "nvmlDeviceGetPowerUsage": lambda _: 312_000,
            "nvmlDeviceGetTemperature": lambda *_: 61,
        }[name]

        def ask(*arguments: Any) -> Any:
            if arguments[:1] == (1,) and name not in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"):
                raise self.NVMLError("not supported")
            return told(*arguments)

        return ask


def test_gpus_are_told_as_far_as_they_tell() -> None:
    nvml = Nvml()
    gpus = Gpus(nvml)
    assert gpus.read() == (
        Gpu("0 Large", 0.87, 3 * GIB, 80 * GIB, 312.0, 61),
        Gpu("1 GPU", None, 3 * GIB, 80 * GIB, None, None),
    )
    gpus.close()
    assert not nvml.is_open
    assert gpus.read() == ()


def test_cpu_and_memory_are_in_range() -> None:
    cpu, used, total = cpu_and_memory()
    assert 0 <= cpu <= 1
    assert 0 < used < total


TEXT = """
# TYPE nv_inference_request_summary_us summary
nv_inference_request_summary_us{model="pets",version="2",quantile="0.5"} 1500
nv_inference_request_summary_us{model="pets",version="2",quantile="0.99"} 2750.5
nv_inference_request_summary_us{model="idle",version="1",quantile="0.5"} NaN
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.25
# TYPE nv_cpu_memory_total_bytes gauge
nv_cpu_memory_total_bytes 1000
# TYPE nv_cpu_memory_used_bytes gauge
nv_cpu_memory_used_bytes 400
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{gpu_uuid="GPU-1"} 250
"""


def test_what_metrics_tell() -> None:
    found = metrics.parse(TEXT)
    assert found.quantiles == {("pets", "2"): {"p50_ms": 1.5, "p99_ms": 2.7505}}
    assert (found.cpu, found.memory_used, found.memory_total) == (0.25, 400, 1000)
    assert found.gpus == (Gpu("GPU-1", utilization=0.5, power_watts=250.0),)


def test_zeros_of_a_server_that_has_just_started_are_none() -> None:
    found = metrics.parse("nv_cpu_utilization 0\nnv_cpu_memory_total_bytes 0\nnv_cpu_memory_used_bytes 0\n")
    assert (found.cpu, found.memory_used, found.memory_total) == (None, None, None)


@given(st.one_of(st.text(), st.integers(0, len(TEXT)).map(lambda end: TEXT[:end])))
def test_metrics_that_are_none_are_left_out(text: str) -> None:
    metrics.parse(text)


# --- against the fake, whose counters the test knows ---


@contextmanager
def web(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/metrics"
        running.shutdown()
        thread.join(30)


def lies(handler: BaseHTTPRequestHandler) -> None:
    """More announced than sent."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"nv_cpu_utilization 0.5\x00\xff\n")


def refuses(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(500)


def gibberish(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x16\x03\x01 what?\n")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run("client.cli", "top", *arguments)


@pytest.mark.parametrize("answer", [lies, refuses, gibberish])
def test_metrics_that_cannot_be_had_are_done_without(answer: Any, fake: Fake) -> None:
    with web(answer) as url:
        result = run("--url", fake[1], "--once", "--interval", "0.05", "--json", "--metrics-url", url)
    assert result.returncode == 0, result.stderr
    assert [item["model"] for item in json.loads(result.stdout)["models"]] == ["pets"]


def test_no_server_is_told(fake: Fake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run("--url", f"127.0.0.1:{port}", "--once", "--retries", "0")
    assert result.returncode == 3
    assert str(port) in result.stderr
    result = run("--url", fake[1], "--once", "--model", "cars")
    assert result.returncode == 5
    assert "cars is not served; there are: pets" in result.stderr


def test_plain_lines_where_there_is_no_terminal(fake: Fake) -> None:
    result = run("--url", fake[1], "--count", "2", "--interval", "0.05", "--metrics-url", "none")
    assert result.returncode == 0
    lines = [line.split("  ")[1] for line in result.stdout.splitlines()]
    assert [line.split()[0] for line in lines] == ["CPU", "idle", "CPU", "idle"]


def test_csv_is_appended_to(fake: Fake, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    for _ in range(2):
        assert run("--url", fake[1], "--count", "2", "--interval", "0.05", "--csv", file).returncode == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["model"] for row in rows] == ["pets"] * 4
    assert list(rows[0]) == list(COLUMNS)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\ud800"])
def test_csv_of_others_is_left_alone(content: str, fake: Fake, tmp_path: Path) -> None:
    file = tmp_path / "theirs.csv"
    file.write_bytes(before := content.encode("utf-8", "surrogatepass"))
    result = run("--url", fake[1], "--once", "--csv", file)
    assert result.returncode == 11
    assert str(file) in result.stderr
    assert file.read_bytes() == before


def test_server_may_go_and_come_back() -> None:
    with serving() as (_, url):
        pass
    command = [sys.executable, "-m", "client.cli", "top", "--url", url, "--json", "--interval", "0.1", "--count", "4"]
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack:
        with serving(port=port):
            process = stack.enter_context(started([*command, "--timeout", "2"], stdout=subprocess.PIPE, text=True))
            assert process.stdout is not None
            assert "models" in json.loads(process.stdout.readline())
        assert any("error" in json.loads(line) for line in iter(process.stdout.readline, ""))
        with serving(port=port):
            rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "models" in json.loads(rest.splitlines()[-1])


# --- as it looks ---


A_FRAME = ModelFrame("alexnet", "1", 123.4, 987.6, 0.0, 1.25, 20.0, 7.8, 21.0, 40.5, 10, 0)


def a_frame(**changes: Any) -> ModelFrame:
    return dataclasses.replace(
        ModelFrame("alexnet", "1", 123.4, 987.6, 0.0, 1.25, 20.0, 7.8, 21.0, 40.5, 10, 0), **changes
    )


def shown(frame: Frame | None, trouble: str = "", width: int = 80) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), color_system=None)
    console.print(render("localhost:8001", frame, trouble))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_view_fits(width: int) -> None:
    models = (a_frame(), a_frame(model="a_model_of_a_rather_long_name", version="12", failures_per_s=2.5, p50_ms=None))
    gpus = (Gpu("0 H200", 0.87, 3 * GIB, 140 * GIB, 312.0, 61),)
    text = shown(Frame(1.0, models, 0.5, 2 * GIB, 24 * GIB, gpus), width=width)
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if line.startswith("alexnet"))
    assert row.split()[1:] == ["123", "988", "-", "1.2", "20.0", "21.0", "40.5", "7.8"]
    for fact in ("CPU 50%", "2.0/24.0 GiB", "GPU 0 H200 87%", "312 W", "61 °C"):
        assert fact in " ".join(text.split())
    assert "2.5" in text


def test_trouble_is_shown_instead() -> None:
    assert "unavailable" in shown(None, "the server is unavailable")
    assert "measuring" in shown(None)


def test_names_are_no_markup() -> None:
    assert "[red]" in shown(Frame(1.0, (a_frame(model="[red]x"),)), width=120)


def test_plain_lines_leave_out_what_is_not_known() -> None:
    (line,) = plain_lines(Frame(1.0, (a_frame(p50_ms=None, p99_ms=None), a_frame(requests_per_s=0.0))))
    assert line == "alexnet: req/s 123, img/s 988, queue ms 1.2, compute ms 20.0, batch 7.8"


@pytest.mark.parametrize("leave", ["q", signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal(leave: Any, fake: Fake) -> None:
    """Live, until the user leaves; the terminal is as it was, then."""
    terminal, theirs = os.openpty()
    command = [sys.executable, "-m", "client.cli", "top", "--url", fake[1], "--interval", "0.1"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with started(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = until(terminal, "pets.*req/s|req/s.*pets")
        os.write(terminal, b"q") if leave == "q" else process.send_signal(leave)
        seen += until(terminal, None)
        assert process.wait(60) == 0
    assert "\x1b[?1049h" in seen
    assert seen.rindex("\x1b[?1049l") > seen.rindex("pets")
    assert "Traceback" not in seen
    os.close(terminal)


def until(terminal: int, pattern: str | None) -> str:
    """What is read until the pattern is there, or, without one, until the end."""
    seen, deadline = "", time.monotonic() + 60
    while not (pattern and re.search(pattern, seen, re.DOTALL)) and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal, 65536).decode("utf-8", "replace")
            except OSError:  # the other end is closed
                break
    return seen


# --- the real server, which counts a request after it has answered it ---


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_was_asked_is_what_is_counted(protocol: str, server: Endpoints) -> None:
    url = {"grpc": server.grpc, "http": f"http://{server.http}"}[protocol]
    with Client(server.grpc) as client, Client(url) as watching:
        reader = Reader(watching, server.metrics)
        assert reader.frame() is None
        started = reader._before.models["unlabelled", "1"].success.count  # type: ignore[union-attr]
        for _ in range(7):
            client.classify_batch([PHOTO, PHOTO], "unlabelled")
        eventually(lambda: client.statistics("unlabelled")[0].success.count >= started + 7)
        frame = reader.frame()
        assert frame is not None
        counted = frame.models[0]
        reader.close()
    assert counted.model == "unlabelled"
    assert counted.requests_per_s * frame.interval == pytest.approx(7)
    assert counted.images_per_s * frame.interval == pytest.approx(14)
    assert counted.requests == started + 7
    assert counted.batch == pytest.approx(2)
    assert counted.compute_ms
    assert counted.compute_ms > 0
    assert counted.p50_ms
    assert counted.p99_ms is not None
    assert 0 < counted.p50_ms <= counted.p99_ms
    assert frame.cpu is not None
    assert frame.memory_total
    assert frame.memory_used is not None
    assert not [item for item in frame.models if item.model.startswith("preprocess_")]


def test_failures_are_counted(server: Endpoints) -> None:
    with Client(server.grpc) as client:
        reader = Reader(client, server.metrics, "unlabelled")
        reader.frame()
        (before,) = client.statistics("unlabelled")
        assert all(item.error for item in client.classify_many([b"bad"] * 3, "unlabelled", batch_size=1))
        eventually(lambda: client.statistics("unlabelled")[0].failure.count >= before.failure.count + 3)
        frame = reader.frame()
        reader.close()
    assert frame is not None
    assert [item.model for item in frame.models] == ["unlabelled"]
    failures = round(frame.models[0].failures_per_s * frame.interval, 6)
    assert failures in (3, 4, 5, 6)  # Triton 2.51 counts those of an ensemble twice


def test_once_as_json(server: Endpoints) -> None:
    arguments = ["--url", server.grpc, "--metrics-url", server.metrics, "--once", "--interval", "0.2", "--json"]
    frame = json.loads(run(*arguments, "--steps").stdout)
    names = {item["model"] for item in frame["models"]}
    assert {"unlabelled", "torchscript_model", "torchscript_model_torchscript"} <= names
    assert frame["interval"] >= 0.2
    assert 0 <= frame["cpu"] <= 1


def test_without_a_standard_input_no_key_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with keys.unbuffered():
        assert not keys.wait(0.001)

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import VARIANTS, build
from processes import started
from waiting import until

from builder.triton import model_config
from client import Prediction

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.append(str(EXAMPLES))  # where the demo's own modules lie, as Python has it for a script

from parts import digits, page, photos  # noqa: E402
from parts.photos import Answer, Asked  # noqa: E402
from photo_sets import PHOTOS  # noqa: E402

SMALL = """
models:
  small:
    network: small.py:small
    weights: random
    preprocess: {channels: 3, resize: 40, crop: 32}
"""
SERVE_AND_WAIT = """
import sys, time
from pathlib import Path
from builder.machine import signals
from parts import program
signals.listen()
with program.serving(Path(sys.argv[1])) as address:
    print(address, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def demo() -> str:
    """What it prints; the network that it has trained, and the digits that it held out, lie in examples/digits."""
    finished = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"], capture_output=True, text=True, check=False, timeout=540
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_demo_serves_what_pytorch_computes_and_names_photos(demo: str) -> None:
    served, direct = re.findall(r"accuracy, .*? ([\d.]+)%", demo)
    assert served == direct
    assert float(served) >= 97
    assert len(re.findall(r"^epoch ", demo, re.MULTILINE)) <= 5
    for part in ("p99", "images/s", "is a zero:", "chelsea.jpg", "Egyptian cat", "espresso", "daisy"):
        assert part in demo
    same, total = map(int, re.findall(r"on (\d+) of (\d+) photos", demo)[0])
    assert 0.75 <= same / total <= 1
    written = Path(re.findall(r"for a browser: (.*)", demo)[0]).read_text(encoding="utf-8")
    assert written.count("data:image/jpeg;base64,") == len(PHOTOS)
    assert not re.findall(r'(?:src|href)="(?!data:)', written)


@pytest.mark.parametrize("format_name", [name for name, precision in VARIANTS if precision == "int8"])
@pytest.mark.usefixtures("demo")
def test_int8_of_digits_loses_at_most_half_a_point(format_name: str, tmp_path: Path) -> None:
    """Of a network that was really trained, on images that it has not seen."""
    shutil.copytree(EXAMPLES / "digits", tmp_path / "digits", ignore=shutil.ignore_patterns("model_repository"))
    text = (EXAMPLES / "digits_int8.yaml").read_text(encoding="utf-8")
    (built,) = build(tmp_path, text.replace("format: openvino", f"format: {format_name}"))
    check = built.verification
    assert check.samples == 450
    assert check.network_accuracy is not None
    assert check.artifact_accuracy is not None
    assert check.network_accuracy >= 0.97
    assert check.artifact_accuracy >= check.network_accuracy - 0.005
    config = tmp_path / "repository" / f"digits_{format_name}_int8" / "config.pbtxt"
    facts = model_config.read(config).parameters
    assert float(facts["artifact_accuracy"].string_value) == pytest.approx(check.artifact_accuracy, abs=1e-4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build(folder, SMALL)
    return folder / "repository"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_stays_behind(number: int, small: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{EXAMPLES.parent}"}
    command = [sys.executable, "-c", SERVE_AND_WAIT, str(small)]
    with started(command, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        address = demo.stdout.readline().strip()
        assert is_open(address)
        demo.send_signal(number)
        demo.wait(120)
        until(lambda: not is_open(address), 120)  # a killed one leaves the server to notice


def is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as connection:
        return connection.connect_ex((host, int(port))) == 0


def test_digits_that_are_served_otherwise_are_wrong() -> None:
    assert digits.faults(0.99, 0.99) == []
    assert digits.faults(0.98, 0.99) == ["digits: the server's accuracy is 98.00%, the module's 99.00%"]
    assert digits.faults(0.5, 0.5) == ["digits: the accuracy is 50.00%, below 97%"]


def asked(photo: Path, fp32: str, int8: str) -> Asked:
    def answer(first: str) -> Answer:
        rest = [label for label in ("tabby", "espresso", "tench") if label != first]
        shares = zip([first, *rest], (0.5, 0.25, 0.125), strict=False)
        return Answer(tuple(Prediction(0, label, share) for label, share in shares), 1.0)

    return Asked(photo, answer(fp32), answer(int8))


def test_a_cat_that_is_no_cat_is_wrong() -> None:
    cat = PHOTOS[0]
    assert photos.faults([asked(cat, "tabby", "tiger cat")], 1) == []
    (fault,) = photos.faults([asked(cat, "tabby", "espresso")], 1)
    assert fault.startswith("photos: chelsea.jpg is 'espresso' in int8, none of Egyptian cat")
    assert photos.faults([], 0.5) == ["photos: int8 agrees with fp32 on 50%, below 75%"]


def test_the_page_shows_both_precisions_of_each_class_and_escapes_names() -> None:
    text = page.render([asked(PHOTOS[0], "tabby", "<b>")], 3, 4)
    assert "3 of 4" in text
    assert "&lt;b&gt;" in text
    assert "width: 50.00%" in text

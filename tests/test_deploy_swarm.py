"""The stack file; and a swarm of one node, updated and wounded under load."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import standin
import tools
import yaml
from conftest import build
from engines import OWN, engine
from hypothesis import given
from hypothesis import strategies as st
from processes import started
from published import publish_model, publish_plan
from test_nginx import accepts, free_port, recorder

from builder.containers import make
from builder.data.images import SAMPLES
from builder.deploy.swarm import GRACE_SECONDS, LINGER_SECONDS, PROXY, STACK, Options, render
from builder.errors import DeployError
from builder.repository.served import read_repository

ROOT = Path(__file__).parent.parent
OPTIONS = Options("registry/triton:1")
MODEL = """
models:
  small:
    network: small.py:small
    weights: random
    seed: {seed}
    format: onnx
    labels: [cat, dog, "other: thing"]
    preprocess: {{channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("swarm")
    publish_model(folder, "o", backend="onnxruntime", filename="model.onnx", facts={"opset": "18"}, device="cpu")
    return read_repository(folder)


def services(models: list[Any], options: Options) -> dict[str, Any]:
    stack = yaml.safe_load(render(models, options)[STACK])
    return dict(stack["services"])


def test_what_the_stack_asks_for(models: list[Any]) -> None:
    triton = services(models, replace(OPTIONS, replicas=3, repository_path="/srv/models", admin_secret="key"))["triton"]
    assert triton["deploy"]["replicas"] == 3
    assert triton["deploy"]["update_config"]["order"] == "start-first"
    assert triton["deploy"]["update_config"]["failure_action"] == "rollback"
    assert triton["user"].split(":")[0] != "0"
    assert triton["read_only"]
    assert triton["cap_drop"] == ["ALL"]
    assert triton["deploy"]["resources"]["limits"]["memory"]
    assert {"type": "bind", "source": "/srv/models", "target": "/models", "read_only": True} in triton["volumes"]
    assert triton["command"][-2:] == ["--admin-key-file", "/run/secrets/admin-key"]
    assert triton["stop_grace_period"] == f"{GRACE_SECONDS}s"
    assert GRACE_SECONDS > LINGER_SECONDS
    assert "generic_resources" not in triton["deploy"]["resources"]["reservations"]


def test_nothing_is_published_unless_asked_for(models: list[Any]) -> None:
    assert all("ports" not in service for service in services(models, OPTIONS).values())
    published = services(models, replace(OPTIONS, grpc_port=9001))
    assert "ports" not in published["triton"]
    assert published["proxy"]["ports"] == [{"target": 8001, "published": 9001}]


def test_the_proxy_refuses_chunks_and_compressed_bodies(models: list[Any], tmp_path: Path) -> None:
    """As rendered, but for addresses, in a real HAProxy before a server that records."""
    program = tools.program("haproxy", "apt-get install haproxy")
    port, other = free_port(), free_port()
    with recorder() as (address, heads):
        text = render(models, OPTIONS)[PROXY].replace(":8000\n", f"127.0.0.1:{port}\n", 1)
        text = text.replace("bind :8001", f"bind 127.0.0.1:{other}")
        text = re.sub(
            r"    option httpchk GET.*\n    default-server.*\n    server-template.*", f"    server one {address}", text
        )
        (tmp_path / PROXY).write_text(text)
        with started([program, "-db", "-f", tmp_path / PROXY], stdout=subprocess.DEVNULL):
            wait_for(lambda: accepts(port), lambda: "the proxy does not start")
            url = f"http://127.0.0.1:{port}/v2/models/small/infer"
            chunked = httpx.post(url, content=iter([b"A"] * 1000))
            assert (chunked.status_code, "length of the body" in chunked.json()["error"]) == (411, True)
            assert httpx.post(url, content=b"A", headers={"content-encoding": "gzip"}).status_code == 415
            assert not heads
            assert httpx.post(url, content=b"A" * 1000).status_code == 200
    assert b"content-length: 1000" in heads[0].lower()


def test_another_build_is_another_task(tmp_path: Path) -> None:
    """Even where it has the same version, in a repository that was begun anew."""
    digests = []
    for number in range(2):
        folder = tmp_path / str(number)
        publish_model(
            folder, "o", backend="onnxruntime", filename="m", facts={"artifact_sha256": str(number)}, device="cpu"
        )
        triton = services(read_repository(folder), OPTIONS)["triton"]
        assert triton["labels"]["build-repo.models"] == "o/1"
        digests.append(triton["labels"]["build-repo.digest"])
    assert digests[0] != digests[1]


def test_gpus(tmp_path: Path) -> None:
    publish_plan(tmp_path)
    triton = services(read_repository(tmp_path), replace(OPTIONS, gpus=2))["triton"]
    (wanted,) = triton["deploy"]["resources"]["reservations"]["generic_resources"]
    assert wanted == {"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": 2}}


def test_another_proxy_configuration_has_another_name(models: list[Any]) -> None:
    names = {
        yaml.safe_load(render(models, replace(OPTIONS, replicas=count))[STACK])["configs"]["proxy"]["name"]
        for count in (2, 3)
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "triton"}, "has no tag"),
        ({"image": "triton:latest"}, "whatever was pushed last"),
        ({"proxy_image": "haproxy"}, "has no tag"),
        ({"name": "Not A Name"}, "cannot be a stack's name"),
        ({"repository_path": "models"}, "begin it with /"),
        ({"http_port": 8001, "grpc_port": 8001}, "port 8001 is given twice"),
        ({"tls_secret": "tls"}, "--tls-secret is for published ports"),
    ],
)
def test_refusals(changes: dict[str, str], message: str, models: list[Any]) -> None:
    with pytest.raises(DeployError, match=message):
        render(models, replace(OPTIONS, **changes))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_path_is_the_path(text: str) -> None:
    from builder.deploy.files import render as render_template

    options = replace(OPTIONS, repository_path=f"/{text}")
    values = dict.fromkeys(("linger", "grace", "cpus", "shared_memory", "start_seconds", "proxy_digest", "digest"), 1)
    stack = render_template(
        "swarm/stack.yml", options=options, models=[text], needs_gpu=False, memory_mib=2, health=[], **values
    )
    triton = yaml.safe_load(stack)["services"]["triton"]
    # Compose reads $$ as $, and would replace the name behind a single one.
    assert triton["volumes"][0]["source"].replace("$$", "$") == f"/{text}"
    assert "$" not in triton["volumes"][0]["source"].replace("$$", "")
    assert triton["labels"]["build-repo.models"].replace("$$", "$") == text


@pytest.fixture
def swarm() -> Iterator[Any]:
    """A client of an engine that is a swarm of one node, as long as the test runs."""
    client = engine()
    is_new = client.info()["Swarm"]["LocalNodeState"] == "inactive"
    if is_new:
        client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    yield client
    if is_new:
        client.swarm.leave(force=True)
    client.close()


def image_of(repository: Path, tag: str, base: str) -> str:
    order = make.order(read_repository(repository), "slim", base, bake=True)
    return make.build(order, f"build-repo-test/swarm:{tag}").reference


def deploy(folder: Path, models: list[Any], options: Options) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in render(models, options).items():
        (folder / name).write_text(text)
    command = [
        "docker",
        "stack",
        "deploy",
        "--resolve-image=never",
        "--compose-file",
        str(folder / STACK),
        options.name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def wait_for(condition: Callable[[], Any], told: Callable[[], object], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.5)


def ready(client: Any, service: str, image: str | None = None) -> list[Any]:
    """Containers of a service, of an image, that are healthy, or that have no check of that."""
    found = client.containers.list(filters={"label": f"com.docker.swarm.service.name={service}"}, ignore_removed=True)
    return [
        one
        for one in found
        if one.attrs["State"].get("Health", {}).get("Status", "healthy") == "healthy"
        and image in (None, one.attrs["Config"]["Image"])
    ]


def states(client: Any, *services: str) -> object:
    return [
        [(task["Status"]["State"], task["Status"].get("Err")) for task in client.services.get(one).tasks()]
        for one in services
    ]


def start_load(client: Any, network: str, folder: Path) -> Any:
    """The load's own container, in the stack's network: nothing is published."""
    read_only = {str(path): {"bind": str(path), "mode": "ro"} for path in {sys.prefix, sys.base_prefix, str(ROOT)}}
    command = [sys.executable, str(ROOT / "tests/swarm_load.py"), "proxy:8001", str(SAMPLES / "chelsea.jpg"), "small"]
    return client.containers.run(
        standin.python_base(client),
        [*command, str(folder / "stop"), str(folder / "result.json")],
        detach=True,
        name=f"{OWN}-load",
        network=network,
        environment={"PYTHONPATH": str(ROOT)},
        volumes=read_only | {str(folder): {"bind": str(folder), "mode": "rw"}},
    )


def answers(folder: Path) -> dict[str, int]:
    try:
        return dict(json.loads((folder / "result.now").read_text())["answers"])
    except (OSError, ValueError):  # not yet, or being written
        return {}


def list_now(folder: Path) -> list[str]:
    """What the load has met so far, for whoever reads of a failure."""
    return [file.read_text()[:2000] for file in folder.iterdir()]


@pytest.mark.docker
def test_an_update_and_a_kill_under_load(swarm: Any, tmp_path: Path) -> None:
    base, repository, name = standin.python_base(swarm), tmp_path / "repository", OWN
    images = []
    for number in (1, 2):
        build(tmp_path, MODEL.format(seed=number), repository)
        images.append(image_of(repository, str(number), base))
    models, load = read_repository(repository), None
    options = Options(images[0], name, 2, proxy_image=base, cpus=1, memory_mib=2048)
    try:
        deploy(tmp_path / "stack", models, options)
        triton, proxy = f"{name}_triton", f"{name}_proxy"
        wait_for(lambda: len(ready(swarm, triton)) == 2 and ready(swarm, proxy), lambda: states(swarm, triton, proxy))
        (tmp_path / "load").mkdir()
        load = start_load(swarm, f"{name}_inside", tmp_path / "load")
        wait_for(lambda: answers(tmp_path / "load"), lambda: (load.logs().decode(), list_now(tmp_path / "load")), 40)

        deploy(tmp_path / "stack", models, replace(options, image=images[1]))
        wait_for(lambda: len(ready(swarm, triton, images[1])) == 2, lambda: states(swarm, triton))
        wait_for(lambda: not ready(swarm, triton, images[0]), lambda: states(swarm, triton))

        (victim, _) = ready(swarm, triton)
        victim.kill()
        wait_for(
            lambda: len([one for one in ready(swarm, triton) if one.id != victim.id]) == 2,
            lambda: states(swarm, triton),
        )
        (tmp_path / "load" / "stop").touch()
        assert load.wait(timeout=60)["StatusCode"] == 0, load.logs().decode()
    finally:
        if load is not None:
            load.remove(force=True)
        subprocess.run(["docker", "stack", "rm", name], capture_output=True, timeout=120)
        wait_for(lambda: not ready(swarm, f"{name}_triton"), lambda: "the stack does not go")
        shutil.rmtree(tmp_path / "stack", ignore_errors=True)
    result = json.loads((tmp_path / "load" / "result.json").read_text())
    assert not result["failures"]
    assert len(result["answers"]) == 2  # of the one version, and then of the other
    assert sum(result["answers"].values()) > 100


def test_the_command(models: list[Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "builder", "deploy", "swarm", "-r", str(models[0].repository), "--json"]
    done = subprocess.run(
        [*command, "--image", "a/b:1", "-o", str(tmp_path / "out")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["written"]) == [PROXY, STACK]
    assert json.loads(done.stdout)["advisories"] is None
    assert "which Triton a/b:1 has is not told by its name; in an image of kind slim, Triton 2.51 has" in done.stderr
    done = subprocess.run(
        [*command, "--image", "a/b", "-o", str(tmp_path / "out")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 19
    assert "has no tag" in done.stderr

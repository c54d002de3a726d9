"""What examples/monitoring holds, in a real Prometheus that watches the real server."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import gateway
from processes import started
from ruamel.yaml import YAML
from tools import program

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import Client

FILES = Path(__file__).parent.parent / "examples" / "monitoring"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = (FILES / "alerts.yml").read_text(encoding="utf-8")
# Triton tells these where there is a GPU, and only there.
OF_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes", "nv_gpu_power_usage"}


def names(text: str) -> set[str]:
    return set(re.findall(r"\b(?:nv|gateway)_\w+", text))


def of_prometheus(name: str) -> str:
    return program(name, "apt-get install prometheus", "prometheus")


@pytest.mark.prometheus
def test_the_alerts_own_tests() -> None:
    result = subprocess.run(
        [of_prometheus("promtool"), "test", "rules", FILES / "alerts_test.yml"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_and_says_how_grave_it_is() -> None:
    yaml = YAML(typ="safe")
    rules = [rule for group in yaml.load(ALERTS)["groups"] for rule in group["rules"]]
    tested = {
        item["alertname"]
        for case in yaml.load((FILES / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
        for item in case["alert_rule_test"]
        if item["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules} == tested
    assert {rule["labels"]["severity"] for rule in rules} <= {"critical", "warning"}


def test_panels_have_titles_and_do_not_overlap() -> None:
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        cells |= taken
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


# --- a real Prometheus ---


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Prometheus:
    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"http://{address}", timeout=10)

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("/api/v1/query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()


def eventually(found: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return result


def configured(folder: Path, targets: dict[str, list[str]]) -> Path:
    """The shipped files, watching `targets`, in more of a hurry."""
    yaml = YAML(typ="safe")
    config = yaml.load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "300ms", "scrape_timeout": "300ms", "evaluation_interval": "300ms"}
    assert [job["job_name"] for job in config["scrape_configs"]] == list(targets)
    for job in config["scrape_configs"]:
        job["static_configs"][0]["targets"] = targets[job["job_name"]]
    (folder / "alerts.yml").write_text(re.sub(r"for: \S+", "for: 1s", ALERTS), encoding="utf-8")
    with (folder / "prometheus.yml").open("w", encoding="utf-8") as file:
        yaml.dump(config, file)
    return folder / "prometheus.yml"


@pytest.fixture(scope="module")
def prometheus(server: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Watches the server, a gateway before it, and a server that is not there; both have been asked something."""
    executable, folder, address = (
        of_prometheus("prometheus"),
        tmp_path_factory.mktemp("prometheus"),
        f"127.0.0.1:{free_port()}",
    )
    targets = re.sub(r"^http://|/metrics$", "", server.metrics)
    with gateway(server.grpc) as url:
        config = configured(
            folder, {"triton": [targets, f"127.0.0.1:{free_port()}"], "gateway": [url.removeprefix("http://")]}
        )
        command = [
            executable, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}", "--log.level=error",
        ]  # fmt: skip
        with started(command), closing(Prometheus(address)) as running:
            assert eventually(running.is_ready)
            work(
                server,
                url,
                lambda: all(running.query(served(query)) for query in QUERIES if not names(query) & OF_GPUS),
            )
            yield running


def work(server: Endpoints, url: str, done: Callable[[], bool]) -> None:
    """Requests through the gateway, good and bad, until the dashboard has something to show, or a minute is over."""
    photo = (SAMPLES / "coffee.jpg").read_bytes()
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=url, timeout=30) as caller, Client(server.grpc) as client:
        while time.monotonic() < deadline:
            for image in (photo, b"no image"):
                caller.post(
                    "/classify", params={"model": "unlabelled"}, content=image, headers={"content-type": "image/jpeg"}
                )
            client.classify(photo, "unlabelled")
            if done():
                return
            time.sleep(0.2)


def served(query: str) -> str:
    """As Grafana sends it, all servers and models chosen."""
    return query.replace("$__rate_interval", "5s").replace("$instance", ".*").replace("$model", ".*")


@pytest.mark.prometheus
def test_targets_are_watched(prometheus: Prometheus) -> None:
    up = {(item["metric"]["job"], item["value"][1]) for item in prometheus.query("up")}
    assert up == {("triton", "1"), ("triton", "0"), ("gateway", "1")}


@pytest.mark.prometheus
def test_every_metric_that_is_named_exists(prometheus: Prometheus) -> None:
    there = set(prometheus.ask("/api/v1/label/__name__/values"))
    assert names(ALERTS) | names(json.dumps(DASHBOARD)) <= there | OF_GPUS


@pytest.mark.prometheus
@pytest.mark.parametrize("query", QUERIES)
def test_panels_show_something(query: str, prometheus: Prometheus) -> None:
    assert names(query)
    shown = prometheus.query(served(query))  # refused ones raise
    assert shown or names(query) <= OF_GPUS


@pytest.mark.prometheus
@pytest.mark.parametrize("variable", [item for item in DASHBOARD["templating"]["list"] if item["type"] == "query"])
def test_variables_have_values(variable: dict[str, Any], prometheus: Prometheus) -> None:
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
    assert match
    assert prometheus.ask(f"/api/v1/label/{match[2]}/values", **{"match[]": served(match[1])})


@pytest.mark.prometheus
def test_a_server_that_is_down_raises_the_alarm_and_one_that_is_up_does_not(prometheus: Prometheus) -> None:
    def firing() -> list[dict[str, str]]:
        alerts = prometheus.ask("/api/v1/alerts")["alerts"]
        return [
            item["labels"]
            for item in alerts
            if item["state"] == "firing" and item["labels"]["alertname"].endswith("Down")
        ]

    (alarm,) = eventually(firing)
    (down,) = prometheus.query('up{job="triton"} == 0')
    assert (alarm["alertname"], alarm["instance"]) == ("TritonDown", down["metric"]["instance"])

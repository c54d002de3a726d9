"""Texts per second of a served network that reads texts over those of the same pipeline in this process.

A model of a repository that was built: --repository model_repository minilm. In process, the tokenizer's step reads a
batch, then the artifact runs. Both get the same batches of 8 texts; the sides take turns, and medians are compared.
What share of the served time the step takes, Triton's own counters tell: of its computing, and of its waiting, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tasks import BATCH, of_network, race

from builder.data import texts
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.repository import layout
from builder.steps.tokenizer import FILE, TokenizerSettings, tokenizer
from builder.triton.model_config import read

Rows = Callable[[], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+")
    parser.add_argument("--repository", type=Path, required=True, help="one that was built")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20, help="batches of 8 in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ports = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
    with LAUNCHERS["embedded"].launch(options.repository, ports) as server:
        for model in options.model:
            show(model, measure(options, model, server.endpoints.grpc), options.json)


def measure(options: argparse.Namespace, model: str, url: str) -> dict[str, Any]:
    """Rates of both sides, their ratio, and the step's share of the served time."""
    config = read(options.repository / model / layout.CONFIG)
    step, network = config.ensemble_scheduling.step
    data = [one.data for one in texts.own() if one.text.strip() and len(one.text) < 100][:BATCH]
    client = triton.InferenceServerClient(url)
    sides = {"served": served(client, model, config.output[0].name, data),
             "in_process": in_process(options.repository, step, network, data)}  # fmt: skip
    ours, theirs = (side() for side in sides.values())
    if not np.allclose(ours, theirs, atol=1e-3):
        raise SystemExit(f"{model}: the server gives something else than its steps do in this process")
    before = seconds(client, step.model_name, network.model_name)
    rates = race(sides, options.rounds, options.batches)
    after = seconds(client, step.model_name, network.model_name)
    spent = {name: after[name] - before[name] for name in after}
    whole = sum(spent.values())
    mine, other = (statistics.median(rates[side]) for side in sides)
    return {"rates": rates, "ratio": mine / other, "step_computes": spent["step_computes"] / whole,
            "step_waits": spent["step_waits"] / whole}  # fmt: skip


def served(client: Any, model: str, output: str, data: list[bytes]) -> Rows:
    def ask() -> np.ndarray:
        given = triton.InferInput("TEXT", [len(data), 1], "BYTES")
        given.set_data_from_numpy(np.array(data, object)[:, None])
        found: np.ndarray = client.infer(model, [given], client_timeout=120).as_numpy(output)
        return found

    return ask


def in_process(repository: Path, step: Any, network: Any, data: list[bytes]) -> Rows:
    """With as many threads as the server has."""
    parameters = read(repository / step.model_name / layout.CONFIG).parameters
    os.environ["RAYON_NUM_THREADS"] = parameters["threads"].string_value
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    recipe = json.loads(parameters["recipe"].string_value)
    reader = tokenizer(TokenizerSettings(file=repository / step.model_name / "1" / FILE, **recipe))
    config = read(repository / network.model_name / layout.CONFIG)
    run = of_network(repository / network.model_name / str(network.model_version), config)
    return lambda: run(*reader.rows(reader.encoded(data)))[0]


def seconds(client: Any, step: str, network: str) -> dict[str, float]:
    """What Triton counted of both models: computing, and waiting in their queues."""
    found: dict[str, float] = {}
    for name, model in (("step", step), ("network", network)):
        (counted,) = client.get_inference_statistics(model).model_stats
        stats = counted.inference_stats
        computed = (stats.compute_input, stats.compute_infer, stats.compute_output)
        found[f"{name}_computes"] = sum(one.ns for one in computed) / 1e9
        found[f"{name}_waits"] = stats.queue.ns / 1e9
    return found


def show(model: str, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"model": model, **found}), flush=True)
        return
    ours, theirs = (statistics.median(found["rates"][side]) for side in ("served", "in_process"))
    print(f"{model:12} served {ours:6.1f}/s  in process {theirs:6.1f}/s  ratio {found['ratio']:.2f}", flush=True)
    print(f"  the step computes {found['step_computes']:.1%} of the served time, and waits {found['step_waits']:.1%}")


if __name__ == "__main__":
    main()

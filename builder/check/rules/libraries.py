"""Whether the server has what a model asks for: its backend, its runtime, its agents."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

from builder.check.files import is_there
from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import BACKEND_MODEL, BACKENDS, MANAGER, PLATFORMS, quoted, replacing

MISNOMERS = {
    **PLATFORMS,
    "ensemble": "ensemble",
    "libtorch": "pytorch",
    "torchscript": "pytorch",
    "torch_aoti": "pytorch",
    "onnx": "onnxruntime",
}
"""What is written for a backend, and is a platform's or a format's name."""

MISNAMED = Rule(
    "TMR108",
    "no-such-backend",
    Level.ERROR,
    "The backend's name is a platform's or a format's, or is written otherwise.",
    "The server looks for a folder of exactly this name among its backends.",
    "Write the backend's own name.",
    BACKEND_MODEL,
)
NEARLY = Rule(
    "TMR109",
    "backend-nearly-known",
    Level.WARNING,
    "The backend's name is nearly that of one of NVIDIA's.",
    "The server looks for exactly this name, and loads the model only where such a backend has been installed.",
    "Mind the spelling; ignore this where the backend is your own.",
    BACKEND_MODEL,
)
RUNTIME = Rule(
    "TMR110",
    "runtime-elsewhere",
    Level.ERROR,
    "The runtime leads out of the backend's folder.",
    "The server loads a backend's library from the version, the model or the backend's folder, and from nowhere else.",
    "Leave `runtime` out, or give a file's name only.",
    BACKEND_MODEL,
)
NO_AGENTS = Rule(
    "TMR111",
    "no-agents",
    Level.ERROR,
    "`model_repository_agents` names no agent.",
    "The server ends when it meets this, and with it every other model.",
    "Leave `model_repository_agents` out.",
    MANAGER,
)
AGENT = Rule(
    "TMR112",
    "agent-of-others",
    Level.WARNING,
    "The repository agent is none of NVIDIA's.",
    "The server refuses the model unless the agent's library has been installed.",
    "Mind the spelling, or install the agent in the server's image.",
    MANAGER,
)
RUNTIME_ELSE = Rule(
    "TMR113",
    "runtime-of-others",
    Level.WARNING,
    "The runtime is no library that NVIDIA's backend has.",
    "The server refuses the model unless such a file is in the backend's folder.",
    "Leave `runtime` out, or put the file into the model's folder.",
    BACKEND_MODEL,
)
UNNAMED_AGENT = Rule(
    "TMR114",
    "agent-without-name",
    Level.ERROR,
    "A repository agent has no name.",
    "The server finds an agent's library by its name.",
    "Add `name`, such as checksum, or leave the agent out.",
    MANAGER,
)
RULES = (MISNAMED, NEARLY, RUNTIME, NO_AGENTS, AGENT, RUNTIME_ELSE, UNNAMED_AGENT)


def check(model: Model, context: Context) -> Iterator[Finding]:
    if model.filled.backend:
        yield from _library(model)
    if model.filled.HasField("model_repository_agents"):
        yield from _agents(model)


def _library(model: Model) -> Iterator[Finding]:
    backend, runtime = model.filled.backend, model.filled.runtime
    if runtime and _escapes(model, runtime):
        yield model.finding(
            RUNTIME,
            f"the runtime {quoted(runtime)} is not in the backend's folder",
            "runtime",
            server="backend library",
        )
    elif runtime and backend in BACKENDS and runtime not in ("model.py", f"libtriton_{backend}.so"):
        if not _has(model, runtime):
            yield model.finding(RUNTIME_ELSE, f"the backend {backend} has no {quoted(runtime)}", "runtime")
    elif backend not in BACKENDS and model.versions and not _has(model, runtime or f"libtriton_{backend}.so"):
        yield from _foreign(model, backend)


def _escapes(model: Model, runtime: str) -> bool:
    homes = (model.filled.backend, model.name, *(str(version) for version in model.served))
    return all(not os.path.normpath(f"{home}/{runtime}").startswith(f"{os.path.normpath(home)}/") for home in homes)


def _has(model: Model, library: str) -> bool:
    folders = [
        model.folder,
        *(model.version_folders[number] for number in model.served if number in model.version_folders),
    ]
    return any(is_there(folder / library) for folder in folders)


def _foreign(model: Model, backend: str) -> Iterator[Finding]:
    plain = backend.strip().lower().replace("-", "_")
    meant = MISNOMERS.get(plain) or (plain if plain in BACKENDS else plain.replace("_", ""))
    server = f"unable to find backend library for backend '{backend}'"
    if meant == "ensemble":
        message = 'ensembles have no backend; they have `platform: "ensemble"`'
        yield model.finding(MISNAMED, message, "backend", server=server)
    elif meant in BACKENDS:
        message = f"there is no backend {quoted(backend)}; its name is {quoted(meant)}"
        yield model.finding(MISNAMED, message, "backend", server=server, edits=replacing(model, "backend", meant))
    elif likely := difflib.get_close_matches(plain, BACKENDS, 1, 0.8):
        message = f"NVIDIA's images have no backend {quoted(backend)}; did you mean {quoted(likely[0])}?"
        edits = replacing(model, "backend", likely[0])
        yield model.finding(NEARLY, message, "backend", server=server, edits=edits)


def _agents(model: Model) -> Iterator[Finding]:
    agents = model.filled.model_repository_agents.agents
    if not agents:
        yield model.finding(NO_AGENTS, "no agent is named", "model_repository_agents", server=DIED)
    for place, agent in enumerate(agents):
        path = ("model_repository_agents", "agents", place)
        server = f"unable to find 'libtritonrepoagent_{agent.name}.so'"
        if not agent.name:
            yield model.finding(UNNAMED_AGENT, f"agent {place} has no name", *path, server=server)
        elif agent.name != "checksum":
            message = f"NVIDIA's images have no repository agent {quoted(agent.name)}"
            yield model.finding(AGENT, message, *path, "name", server=server)

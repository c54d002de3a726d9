"""Whether a server could load all that a repository serves, and what each model would answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.repository import layout, lock
from builder.triton import model_config
from builder.util import hashing


def served(repository: Path) -> dict[str, Any]:
    """What a server would make of the repository, checked as Triton checks it when it loads."""
    folders = sorted(folder for folder in repository.iterdir() if folder.is_dir())
    models = {folder.name: model_config.read(folder / layout.CONFIG) for folder in folders}
    for name, model in models.items():
        assert model.name == name
        _require_files(repository / name, model)
        _require_calls(model, models)
    return models


def _require_files(folder: Path, model: Any) -> None:
    versions = list(model.version_policy.specific.versions)
    assert versions
    for version in versions:
        assert (folder / str(version)).is_dir()
        named = [model.default_model_filename, *model.cc_model_filenames.values()]
        for file in set(named) - {"", layout.NO_PLAN}:
            assert (folder / str(version) / file).is_file()
    for warmup in model.model_warmup:
        for tensor in warmup.inputs.values():
            assert (folder / layout.WARMUP_FOLDER / tensor.input_data_file).is_file()
    for output in model.output:
        assert not output.label_filename or (folder / output.label_filename).is_file()


def _require_calls(model: Any, models: dict[str, Any]) -> None:
    """Every tensor that is taken was given before, to models that have it."""
    there = {tensor.name for tensor in model.input}
    for call in model.ensemble_scheduling.step:
        called = models[call.model_name]
        assert call.model_version in called.version_policy.specific.versions
        assert called.max_batch_size >= model.max_batch_size
        assert set(call.input_map) == {tensor.name for tensor in called.input}
        assert set(call.output_map) <= {tensor.name for tensor in called.output}
        assert set(call.input_map.values()) <= there
        there |= set(call.output_map.values())
    if model.platform == "ensemble":
        assert {tensor.name for tensor in model.output} <= there


def answers(repository: Path, name: str = "m") -> str:
    """All that decides what the model answers; checked on the way, with the lock, which is true at any moment."""
    models = served(repository)
    assert lock.problems(repository) == []
    return json.dumps(list(_answers(repository, models, name)), default=str) if name in models else "nothing"


def _answers(repository: Path, models: dict[str, Any], name: str) -> Iterator[Any]:
    model = models[name]
    (version,) = model.version_policy.specific.versions
    yield model.platform, model.max_batch_size, [(t.name, list(t.dims)) for t in (*model.input, *model.output)]
    yield _content(repository / name / str(version))
    for call in model.ensemble_scheduling.step:
        is_network = models[call.model_name].parameters[layout.ROLE].string_value == layout.NETWORK
        yield "network" if is_network else call.model_name, sorted(call.input_map.items())
        yield _content(repository / call.model_name / str(call.model_version))


def _content(version: Path) -> dict[str, str]:
    return {file: digest for file, digest in hashing.digests(version).items() if file != layout.CONFIG}

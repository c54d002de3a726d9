"""Models of the Python backend, written by hand."""

from __future__ import annotations

from pathlib import Path

COMMON = 'backend: "python" instance_group {{ kind: KIND_CPU count: 1 }} name: "{name}" max_batch_size: {most}\n'


def add(repository: Path, name: str, code: str, config: str, most: int, **parameters: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.py").write_text(code)
    said = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    text = COMMON.format(name=name, most=most) + config + "\n".join(said)
    (repository / name / "config.pbtxt").write_text(text)

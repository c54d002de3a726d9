"""The formats and precisions that an entry is built in, to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from builder import networks
from builder.build import artifact_entry
from builder.build.entry import Entry, resolve
from builder.errors import CompareError
from builder.exporters import EXPORTERS
from builder.manifest.models import Manifest, spec_of
from builder.repository import layout


def entry_or_network(manifest: Manifest | None, path: Path, name: str, weights: str | None) -> Entry:
    """The manifest's entry, or else the network of that name as it comes. Raises BuilderError."""
    if manifest is not None and name in manifest.models:
        return resolve(manifest, [name], weights)[0]
    if not networks.is_known(name):
        known = f"{', '.join(manifest.models)}" if manifest else f"nothing, since {path} does not exist"
        raise CompareError(f"{name!r} is neither an entry of {path} ({known}) nor one of `build-repo networks`")
    task = networks.find(name).facts(name).task
    alone = Manifest(path, {name: spec_of(task)(network=name, task=task)})
    return resolve(alone, [name], weights)[0]


def calibrated(item: Entry, data: str | None) -> Entry:
    """The entry with images to calibrate int8 with, given relative to the working folder, if it has none."""
    if data is None or not _takes_calibration(item) or item.spec.calibration is not None:
        return item
    named = data if ":" in data else str(Path(data).absolute())
    given = item.spec.model_dump(exclude_unset=True) | {"calibration": named}
    try:
        return replace(item, spec=type(item.spec).model_validate(given))
    except ValidationError as error:
        raise CompareError(f"--calibration {data} does not fit {item.name}: {error.errors()[0]['msg']}") from None


def _takes_calibration(item: Entry) -> bool:
    """Whether the task has the key; another one has its ranges from elsewhere, or says what it lacks."""
    return "calibration" in type(item.spec).model_fields


def variants(item: Entry, formats: Sequence[str], precisions: Sequence[str]) -> list[Entry]:
    """The entry in each format and precision that its device knows. Raises CompareError if that is none."""
    for name in formats:
        if name not in EXPORTERS:
            raise CompareError(f"there is no format {name!r}; choose {', '.join(EXPORTERS)}")
    chosen = [
        item.spec.model_copy(update={"format": name, "precision": precision})
        for name, precision in _possible(item)
        if (not formats or name in formats) and (not precisions or precision in precisions)
    ]
    if not chosen:
        what = f"no precision {', '.join(map(repr, precisions))}" if precisions else "nothing"
        raise CompareError(f"{', '.join(formats) or 'every format'} has {what} on the {item.spec.device.upper()}")
    return [replace(item, spec=spec) for spec in chosen]


def _possible(item: Entry) -> list[tuple[str, str]]:
    """Formats with their precisions: of a network those of the device, of a file those that it can be shipped as."""
    if item.artifact and item.is_adopted:
        return artifact_entry.possible(item.artifact)
    return [
        (name, one) for name, exporter in EXPORTERS.items() for one in exporter.PRECISIONS.get(item.spec.device, ())
    ]


def label(item: Entry) -> str:
    return f"{item.spec.format} {item.spec.precision}"


def artifact_path(item: Entry, folder: Path) -> Path:
    return folder / label(item).replace(" ", "-") / layout.VERSION_FOLDER / item.exporter.FILENAME


def require_calibration(item: Entry) -> None:
    if item.needs_calibration and _takes_calibration(item) and item.spec.calibration is None:
        raise CompareError("int8 needs `calibration: {data: DIR}` in the entry, or --calibration DIR")

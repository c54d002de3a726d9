"""One network in all the formats and precisions that this machine can build, side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builder.build.artifact import artifact_bytes, export_network, require_possible, verify_artifact
from builder.build.entry import Entry
from builder.build.reference import make_network, study
from builder.compare.rows import Comparison, Row
from builder.compare.timing import measured
from builder.compare.variants import artifact_path, label, require_calibration, variants
from builder.errors import BuilderError, VerificationError
from builder.machine.memory import return_memory
from builder.tasks.task import Reference
from builder.types import Report
from builder.util.usercode import undone


@undone()
def compare(
    item: Entry,
    formats: Sequence[str] = (),
    precisions: Sequence[str] = (),
    rounds: int = 3,
    report: Report = lambda _: None,
) -> Comparison:
    """Build every variant in a folder that is gone afterwards, and measure them in turns. Raises BuilderError."""
    chosen = variants(item, formats, precisions)
    module, reference = study(item, report)
    del module
    with tempfile.TemporaryDirectory(prefix="build-repo-compare-") as folder:
        rows: dict[str, Row] = {}
        for variant in chosen:
            rows[label(variant)] = _built(variant, reference, Path(folder), report)
        ready = [v for v in chosen if (row := rows[label(v)]).verification and row.megabytes]
        report("measuring")
        own, times = measured(item, ready, reference, Path(folder), rounds)
    for name, (latency, rate) in times.items():
        rows[name] = replace(rows[name], latency_ms=latency, samples_per_second=rate)
    network = Row("pytorch", "fp32", latency_ms=own[0], samples_per_second=own[1])
    return Comparison(
        item.name, len(reference.samples), reference.trained, network, list(rows.values()), reference.warnings
    )


def _built(item: Entry, reference: Reference, folder: Path, report: Report) -> Row:
    row = Row(item.spec.format, item.spec.precision)
    started = time.perf_counter()
    try:
        require_calibration(item)
        require_possible(item)
        report(f"exporting to {label(item)}")
        module = item.task.head(item, make_network(item), reference)
        artifact, _ = export_network(item, module, reference, artifact_path(item, folder).parent.parent)
        del module
        return_memory()
        row = replace(row, build_seconds=time.perf_counter() - started, megabytes=artifact_bytes(artifact) / 1e6)
        report(f"verifying {label(item)}")
        row = replace(row, verification=verify_artifact(item, artifact, reference))
        assert row.verification
        item.task.hold(item, reference, row.verification, label(item))
    except VerificationError as error:
        return replace(row, reason=str(error).split(". Nothing was published")[0])
    except BuilderError as error:
        return replace(row, reason=str(error).splitlines()[0])
    return row

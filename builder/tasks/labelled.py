"""The key of entries whose classes may have names."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from builder.data import labels
from builder.data.sets import Labels, UserText
from builder.tasks.spec import Keys, ModelSpec


class Labelled(ModelSpec):
    """One whose classes may have names."""

    labels: UserText | Labels | None = Field(
        None,
        description="A set's name (imagenet), a text file with one label a line, or a list. A set goes before a file "
        "of its name, which is written ./imagenet. Default: those of the weights.",
    )

    @property
    def labels_file(self) -> Path | None:
        """The path of the labels, if they are neither a list nor a named set."""
        return Path(self.labels) if isinstance(self.labels, str) and self.labels not in labels.SETS else None

    def files(self) -> dict[Keys, str]:
        return super().files() | ({("labels",): str(self.labels)} if self.labels_file else {})

"""What networks are for. A task is a module with what `Task` lists; it is registered by one line in TASKS."""

from __future__ import annotations

from builder.tasks import classification, detection, embedding, segmentation, tensors, text
from builder.tasks.task import Task

TASKS: dict[str, Task] = {
    "classification": classification,
    "detection": detection,
    "segmentation": segmentation,
    "embedding": embedding,
    "text": text,
    "tensors": tensors,
}

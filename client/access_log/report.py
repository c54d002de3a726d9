"""What was found, per image, class and client."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from client.access_log.selecting import Asked
from client.types import Prediction

TOP_CLASSES = 3


@dataclass
class Picture:
    """One image of the site, however often it was asked for."""

    asked: Asked
    requests: int = 0
    clients: Counter[str] = field(default_factory=Counter)
    first: str = ""
    last: str = ""
    predictions: tuple[Prediction, ...] = ()
    error: str = ""

    @property
    def name(self) -> str:
        return f"//{self.asked.host}{self.asked.path}" if self.asked.host else self.asked.path

    @property
    def label(self) -> str:
        return self.predictions[0].label if self.predictions else ""


@dataclass
class Report:
    pictures: dict[Asked, Picture] = field(default_factory=dict)
    lines: int = 0
    malformed: int = 0
    unread: list[str] = field(default_factory=list)
    """Logs that could not be read, or not to their end, and why."""

    def by_path(self) -> list[dict[str, Any]]:
        return [_path_row(picture) for picture in _most_asked(self.pictures.values())]

    def by_class(self) -> list[dict[str, Any]]:
        """By the most probable class; images without one are left out."""
        groups: dict[str, list[Picture]] = defaultdict(list)
        for picture in self.pictures.values():
            if picture.predictions:
                groups[picture.label].append(picture)
        rows = [
            {
                "class": group[0].predictions[0].class_id,
                "label": label,
                "images": len(group),
                "requests": sum(picture.requests for picture in group),
                "clients": len({client for picture in group for client in picture.clients}),
            }
            for label, group in groups.items()
        ]
        return sorted(rows, key=lambda row: (-row["images"], -row["requests"], row["label"]))

    def by_client(self) -> list[dict[str, Any]]:
        images: Counter[str] = Counter()
        requests: Counter[str] = Counter()
        labels: dict[str, Counter[str]] = defaultdict(Counter)
        for picture in self.pictures.values():
            for client, count in picture.clients.items():
                images[client] += 1
                requests[client] += count
                if picture.label:
                    labels[client][picture.label] += 1
        rows = [
            {
                "client": client,
                "images": images[client],
                "requests": requests[client],
                "labels": [label for label, _ in labels[client].most_common(TOP_CLASSES)],
            }
            for client in images
        ]
        return sorted(rows, key=lambda row: (-row["images"], -row["requests"], row["client"]))

    def as_record(self) -> dict[str, Any]:
        totals = {
            "lines": self.lines,
            "malformed": self.malformed,
            "unread": self.unread,
            "images": len(self.pictures),
            "unreadable": sum(bool(picture.error) for picture in self.pictures.values()),
        }
        return {**totals, "classes": self.by_class(), "clients": self.by_client(), "paths": self.by_path()}


def _most_asked(pictures: Any) -> list[Picture]:
    return sorted(pictures, key=lambda picture: (-picture.requests, picture.asked.host, picture.asked.path))


def _path_row(picture: Picture) -> dict[str, Any]:
    best = picture.predictions[0] if picture.predictions else None
    return {
        "path": picture.name,
        "class": best.class_id if best else None,
        "label": best.label if best else "",
        "probability": best.probability if best else None,
        "error": picture.error,
        "requests": picture.requests,
        "clients": len(picture.clients),
        "first": picture.first,
        "last": picture.last,
    }

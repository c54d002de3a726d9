"""Clients of image classifiers and any other models behind Triton, by gRPC and HTTP, for threads and event loops."""

from client.aio import AsyncClient
from client.client import Client
from client.errors import (
    Cancelled,
    ClientError,
    DeadlineExceeded,
    Forked,
    InvalidInput,
    InvalidOption,
    ModelNotFound,
    NotAllowed,
    ServerError,
    ServerUnavailable,
    UnreadableFile,
    UnwritableFile,
)
from client.tasks.arrays import to_bf16
from client.types import (
    Classified,
    Detection,
    ModelInfo,
    ModelStatistics,
    Outcome,
    Prediction,
    Segmentation,
    TensorInfo,
    TextOutcome,
    Tls,
)

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Classified",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "Detection",
    "Forked",
    "InvalidInput",
    "InvalidOption",
    "ModelInfo",
    "ModelNotFound",
    "ModelStatistics",
    "NotAllowed",
    "Outcome",
    "Prediction",
    "Segmentation",
    "ServerError",
    "ServerUnavailable",
    "TensorInfo",
    "TextOutcome",
    "Tls",
    "UnreadableFile",
    "UnwritableFile",
    "to_bf16",
]

"""Clients of image classifiers behind Triton, over gRPC and HTTP, for threads and for event loops."""

from client.aio import AsyncClient
from client.client import Client
from client.errors import (
    Cancelled,
    ClientError,
    DeadlineExceeded,
    Forked,
    InvalidInput,
    ModelNotFound,
    NotAllowed,
    ServerError,
    ServerUnavailable,
    UnreadableFile,
    UnwritableFile,
)
from client.types import Classified, ModelInfo, ModelStatistics, Prediction, TensorInfo, Tls

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Classified",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "Forked",
    "InvalidInput",
    "ModelInfo",
    "ModelNotFound",
    "ModelStatistics",
    "NotAllowed",
    "Prediction",
    "ServerError",
    "ServerUnavailable",
    "TensorInfo",
    "Tls",
    "UnreadableFile",
    "UnwritableFile",
]

"""A thin gRPC client of image classifiers behind Triton."""

from client.client import Classified, Client, ModelInfo, Prediction, TensorInfo
from client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    ServerError,
    ServerUnavailable,
    UnreadableFile,
)

__all__ = [
    "Classified",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "InvalidInput",
    "ModelInfo",
    "ModelNotFound",
    "Prediction",
    "ServerError",
    "ServerUnavailable",
    "TensorInfo",
    "UnreadableFile",
]

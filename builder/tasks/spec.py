"""The keys of an entry that every task has."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from builder.data.sets import Text, UserText


class ModelSpec(BaseModel):
    """One entry of `models:`; tasks add keys of their own, and formats theirs under their name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field("classification", description="What the network is for.")
    network: Text = Field(
        "", description="A name from `build-repo networks`, or package.module:callable, or path/file.py:callable."
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments for the network's constructor."
    )
    weights: UserText | None = Field(
        None,
        description="A torchvision weights name (DEFAULT, IMAGENET1K_V1), a file that holds a state dict "
        "(.pt, .pth, .ckpt, .bin, .safetensors), random, or, for your own callable, included: it loads them itself. A "
        "file that `build-repo train` wrote brings network, recipe and labels along.",
    )
    artifact: UserText | None = Field(
        None,
        description="A file to serve as it is, in place of network and weights: .onnx, TorchScript (.pt), .pt2, "
        "OpenVINO IR (.xml) or a TensorRT plan (.plan).",
    )
    reference: UserText | None = Field(
        None,
        description="What the artifact is held to: a network as for `network:`, or another artifact. Default: itself.",
    )
    seed: StrictInt = Field(0, ge=0, lt=2**63, description="Seed of random weights.")
    format: str = Field("torchscript", description="How the network is shipped.")
    precision: str = Field("fp32", description="Arithmetic of the shipped network.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where the server runs the network.")
    max_batch_size: StrictInt = Field(8, ge=1, le=1024, description="Largest batch the server forms.")
    instances: StrictInt = Field(1, ge=1, le=64, description="Copies of the network, on each GPU or on the CPU.")
    threads: StrictInt | None = Field(
        None, ge=1, le=1024, description="CPU threads of each instance. Default: granted cores / instances."
    )

    def files(self) -> dict[tuple[str, ...], str]:
        """By key, the values that name files, folders or callables beside the manifest. Tasks add theirs."""
        keys = ("network", "artifact", "reference")
        return {(key,): value for key in keys if (value := getattr(self, key))}

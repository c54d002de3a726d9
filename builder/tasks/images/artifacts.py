"""Artifacts that images are sent to: one float32 image in, one row of numbers out, and what stands behind them."""

from __future__ import annotations

from builder.errors import ManifestError
from builder.exporters.adopting import ADOPTERS
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import ANY_SIZE, FLOATS
from builder.types import Artifact

CHANNELS = (1, 3)
SERVED_AS_IS = "or serve it as it is, with `task: tensors`"
LAST_OF = {"softmax": "torch.softmax(scores, 1)", "sigmoid": "torch.sigmoid(scores)"}


def require_classifier(artifact: Artifact, format_name: str, activation: str) -> None:
    """Raise ManifestError for a file that cannot stand behind the images' step, or have its activation."""
    name, told = artifact.path.name, artifact.interface
    if told.inputs is not None:
        _require_image(_only(told.inputs, f"{name} takes", "one image", name), name)
    if told.outputs is not None:
        _require_scores(_only(told.outputs, f"{name} gives", "the classes' scores", name), name)
    if activation != "none" and not artifact.is_program and not ADOPTERS[format_name].ADDS_ACTIVATION:
        raise ManifestError(
            f"no {activation} can be put behind {name}, which is served as it is. If it gives probabilities, say "
            f"`activation: none`; else save it anew with {LAST_OF[activation]} as its last step"
        )


def require_image(artifact: Artifact) -> None:
    """Raise ManifestError for a file that takes something else than what the images' step gives."""
    name, told = artifact.path.name, artifact.interface
    if told.inputs is not None:
        _require_image(_only(told.inputs, f"{name} takes", "one image", name), name)


def require_embedder(artifact: Artifact) -> None:
    """Raise ManifestError for a file that cannot stand behind the images' step, or gives no vector an image."""
    name, told = artifact.path.name, artifact.interface
    if told.inputs is not None:
        _require_image(_only(told.inputs, f"{name} takes", "one image", name, "an embedder"), name)
    if told.outputs is not None:
        vectors = _only(told.outputs, f"{name} gives", "one vector", name, "an embedder")
        if vectors.data_type not in (None, *FLOATS) or (vectors.shape is not None and len(vectors.shape) != 2):
            raise ManifestError(
                f"{name} gives {vectors.name} as {vectors.data_type} {list(vectors.shape or ())}, and embeddings are "
                f"floating-point [B, D]; correct the export, {SERVED_AS_IS}"
            )


def require_detector(artifact: Artifact) -> None:
    """Raise ManifestError for a file that cannot stand behind the images' step."""
    name, told = artifact.path.name, artifact.interface
    if told.inputs is not None:
        _require_image(_only(told.inputs, f"{name} takes", "one image", name, "a detector"), name)


def _only(tensors: tuple[ToldTensor, ...], begin: str, wanted: str, name: str, who: str = "a classifier") -> ToldTensor:
    if len(tensors) != 1:
        listed = ", ".join(tensor.name for tensor in tensors) or "nothing"
        raise ManifestError(
            f"{begin} {listed}, and {who} has {wanted} alone; save {name} with that alone, {SERVED_AS_IS}"
        )
    return tensors[0]


def _require_image(image: ToldTensor, name: str) -> None:
    if image.data_type not in (None, "FP32"):
        raise ManifestError(f"{name} takes {image.name} as {image.data_type}; {_cast(image)}, {SERVED_AS_IS}")
    shape = image.shape
    if shape is None:
        return
    if len(shape) == 4 and shape[3] in CHANNELS and shape[1] not in (*CHANNELS, ANY_SIZE):
        raise ManifestError(
            f"{name} takes images with the channels last, {list(shape)}, and the step before it gives [B, C, H, W]; "
            f"export it with the channels first (tf2onnx: --inputs-as-nchw {image.name}), {SERVED_AS_IS}"
        )
    if len(shape) != 4:
        raise ManifestError(
            f"{name} takes {image.name} of {list(shape)}, and images are [B, C, H, W]; correct the export, "
            f"{SERVED_AS_IS}"
        )


def _cast(image: ToldTensor) -> str:
    """How to have the file take what the images' step gives."""
    if image.data_type == "FP16":
        return "the images' step gives FP32: convert it with keep_io_types=True"
    return "the images' step gives FP32, scaled and normalised: save it with a cast, and without its own scaling"


def _require_scores(scores: ToldTensor, name: str) -> None:
    if scores.data_type not in (None, *FLOATS):
        raise ManifestError(
            f"{name} gives {scores.name} as {scores.data_type}, and scores are floating-point; save it without its "
            f"last step (argmax, perhaps), {SERVED_AS_IS}"
        )
    if scores.shape is not None and len(scores.shape) != 2:
        raise ManifestError(
            f"{name} gives {scores.name} of {list(scores.shape)}, and scores are [B, classes]; correct the export, "
            f"{SERVED_AS_IS}"
        )


def require_size(told: Interface, shape: tuple[int, ...], name: str) -> None:
    """Raise ManifestError unless the file takes images of `shape` [C, H, W], as the recipe gives them."""
    wanted = told.inputs[0].shape if told.inputs else None
    if wanted is None or len(wanted) != 4:
        return
    if any(theirs not in (ANY_SIZE, ours) for theirs, ours in zip(wanted[1:], shape, strict=True)):
        takes, gives = ("x".join("any" if n == ANY_SIZE else str(n) for n in sizes) for sizes in (wanted[1:], shape))
        raise ManifestError(f"{name} takes images of {takes}, and these keys give {gives} (channels, height, width)")

"""A snapshot's network with its weights, made by transformers."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError, WeightsError
from builder.networks import making, weights
from builder.networks.fitting import require_numbers
from builder.networks.huggingface.hub import INSTALL
from builder.networks.huggingface.kinds import TRUST, Kind
from builder.networks.huggingface.snapshot import Snapshot
from builder.networks.misfits import Difference
from builder.networks.readings import unwrapped
from builder.networks.state_files import Saved, read, shortened
from builder.networks.weights import READ_AS
from builder.types import NetworkRequest
from builder.util.hashing import sha256
from builder.util.usercode import border

if TYPE_CHECKING:
    from torch import nn

SNAPSHOT = "snapshot"
"""The name of the weights that a snapshot has."""
ATTENTION = "attn_implementation"
ATTENTIONS = ("eager", "sdpa")
LOSS = "loss_function"
POOLING = "add_pooling_layer"
HEADS_OF_TEXTS = ("pooler.", "cls.", "lm_head.", "vocab_", "predictions.", "mlm_", "discriminator_", "generator_")
"""Beginnings of weights behind what an encoder gives a token."""


@dataclass(frozen=True)
class Loaded:
    module: nn.Module
    """Of transformers, float32, in evaluation mode."""
    config: Any
    """Of transformers."""
    facts: dict[str, str]
    """Of where the weights come from."""
    trained: bool


def load(snapshot: Snapshot, kind: Kind, request: NetworkRequest) -> Loaded:
    """The network with the snapshot's weights, a file's, or random ones. Raises NetworkError, WeightsError."""
    transformers = imported()
    with _quiet(transformers), border(NetworkError, f"{snapshot.name} cannot be made"):
        options = {TRUST: bool(request.arguments.get(TRUST)), "local_files_only": True}
        config = transformers.AutoConfig.from_pretrained(str(snapshot.folder), **options)
        made = _Making(transformers, snapshot, kind, config, request.arguments)
        module, facts = made.weighted(request)
    facts = {"architecture": kind.architecture, "transformers_version": str(transformers.__version__)} | facts
    commit = {"snapshot_commit": snapshot.commit} if snapshot.commit else {}
    _forget_losses(module)
    return Loaded(making.evaluated(making.frozen(module)), config, facts | commit, request.weights.kind != "random")


class _Making:
    def __init__(
        self, transformers: Any, snapshot: Snapshot, kind: Kind, config: Any, arguments: Mapping[str, Any]
    ) -> None:
        self.snapshot, self.kind, self.config = snapshot, kind, config
        self.trust = {TRUST: bool(arguments.get(TRUST))}
        self.attention = {ATTENTION: arguments[ATTENTION]} if ATTENTION in arguments else {}
        self.auto = getattr(transformers, kind.auto)
        own = getattr(transformers, kind.architecture, None)
        self.pooling = {POOLING: False} if kind.is_encoder and _takes_pooling(self.auto, config, own) else {}

    def weighted(self, request: NetworkRequest) -> tuple[nn.Module, dict[str, str]]:
        source, facts = request.weights, weights.provenance(request)
        if source.kind == "random":
            return weights.make_random(self._bare, source.seed), facts
        if source.kind == "file":
            assert source.path is not None  # parse_weights gives every "file" source one
            module, read_as = self._of_file(read(source.path), str(source.path))
            return module, facts | read_as
        if source.name != SNAPSHOT:
            raise WeightsError(
                f"`weights: {source.name}` is none of {self.snapshot.name}; leave the key out for the snapshot's own, "
                f"or name a file, as ./{source.name} if it has no suffix, or random"
            )
        module, read_as = self._pretrained()
        return module, facts | {"weights_sha256": _digest(self.snapshot.weights())} | read_as

    def _of_file(self, saved: Saved, origin: str) -> tuple[nn.Module, dict[str, str]]:
        """By the keys of the network's own modules, or by those that snapshots have: transformers renames these."""
        unused = HEADS_OF_TEXTS if self.kind.is_encoder else ()
        try:
            return weights.make_with_state(self._bare, saved, origin, unused)
        except WeightsError:
            for state in _readings(saved):
                if module := self._renamed(state, origin):
                    notes = (*saved.notes, "the keys are those of a snapshot")
                    return module, {READ_AS: "; ".join(notes)}
            raise

    def _renamed(self, state: dict[str, Any], origin: str) -> nn.Module | None:
        """The network with a state dict whose keys are those of snapshots; None where it does not fit."""
        import torch

        options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
        kind = type(self._bare())
        module, told = kind.from_pretrained(  # type: ignore[attr-defined]
            None, config=self.config, state_dict=state, **options, **self.attention, **self.pooling
        )
        try:
            _require_fitting(module, told, self.kind, origin)
        except WeightsError:
            return None
        require_numbers(module, origin)
        return module  # type: ignore[no-any-return]

    def _bare(self) -> nn.Module:
        import torch

        options = self.trust | self.attention | self.pooling
        made: nn.Module = self.auto.from_config(self.config, dtype=torch.float32, **options)
        return made

    def _pretrained(self) -> tuple[nn.Module, dict[str, str]]:
        import torch

        files = self.snapshot.weights()
        for path in files:
            _require_whole(path)
        module, told = self.auto.from_pretrained(
            str(self.snapshot.folder),
            config=self.config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told, so that they are refused here with the others
            **self.trust,
            **self.attention,
            **self.pooling,
        )
        origin = f"{self.snapshot.name} ({files[0].name})"
        left_out = _require_fitting(module, told, self.kind, origin)
        require_numbers(module, origin)
        return module, {READ_AS: f"left out: {shortened(left_out)}"} if left_out else {}


def _forget_losses(module: nn.Module) -> None:
    """Nothing learns here; transformers warns on the screen of a part whose loss a trace only looks at."""
    for part in module.modules():
        if hasattr(type(part), LOSS):
            setattr(part, LOSS, None)


def _readings(saved: Saved) -> Iterator[dict[str, Any]]:
    """The state dict without the marks of wrappers, and without a name that stands before all keys."""
    bare = {unwrapped(key): value for key, value in saved.tensors.items()}
    yield bare
    roots = {key.partition(".")[0] for key in bare}
    if len(roots) == 1:
        yield {key.partition(".")[2]: value for key, value in bare.items()}


def imported() -> Any:
    """The package transformers. Raises NetworkError where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise NetworkError(f"the package transformers is missing; run: {INSTALL}") from None
    return transformers


def _takes_pooling(auto: Any, config: Any, own: Any) -> bool:
    """Whether its class can be made without what stands behind the vectors of its tokens."""
    found = auto._model_mapping.get(type(config), None) or own
    return inspect.isclass(found) and POOLING in inspect.signature(found.__init__).parameters


def _require_whole(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise WeightsError(
            f"{path} cannot be read as a safetensors file: {reason}; copy or download it once more"
        ) from None


def _require_fitting(module: nn.Module, told: Any, kind: Kind, origin: str) -> list[str]:
    """The keys that are no weights of this network. Raises WeightsError where transformers would only warn, and draw
    anew what is not there, or is of another shape.
    """
    wrong = [
        f"{key} is {list(given)} in the snapshot and {list(own)} in the network"
        for key, given, own in sorted(_field(told, "mismatched_keys"))
    ]
    missing, unexpected = (sorted(_field(told, name)) for name in ("missing_keys", "unexpected_keys"))
    own_parts = {name.partition(".")[0] for name in module.state_dict()}
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    unknown = [key for key in unexpected if key.removeprefix(prefix).partition(".")[0] in own_parts]
    # Buffers that older versions of transformers saved, which are made by the network now.
    unknown = [key for key in unknown if not key.endswith((".position_ids", ".relative_position_index", ".inv_freq"))]
    if not kind.is_encoder:
        unknown = [key for key in unknown if not key.endswith("num_batches_tracked")]
    difference = Difference(missing, unknown, wrong, "; ".join(map(str, _field(told, "error_msgs"))))
    if difference:
        raise WeightsError(
            f"{_refused(origin, difference)}. transformers would draw these anew, so that they would be "
            "untrained: name the snapshot whose weights are all there (one that was fine-tuned has its head), or "
            "correct its config.json, whose id2label says how many classes there are"
        )
    return [key for key in unexpected if key not in unknown]


def _field(told: Any, name: str) -> Any:
    return (told.get(name) if isinstance(told, Mapping) else getattr(told, name, None)) or ()


def _refused(origin: str, difference: Difference) -> str:
    named = (("missing", difference.missing), ("unknown", difference.unknown), ("", difference.wrong))
    parts = [f"{word} {shortened(keys)}".strip() for word, keys in named if keys]
    return f"{origin} does not fit the network: {'; '.join([*parts, *filter(None, [difference.failure])])}"


def _digest(files: list[Path]) -> str:
    """SHA-256 of the file; of the list of them where there are several."""
    if len(files) == 1:
        return sha256(files[0])
    return hashlib.sha256("".join(f"{sha256(path)}  {path.name}\n" for path in files).encode()).hexdigest()


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without its reports and bars: what they tell is told by errors."""
    log = transformers.utils.logging
    before, had_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if had_bars:
            log.enable_progress_bar()

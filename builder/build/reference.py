"""The network of an entry, and what it gives for artifacts to be held to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from builder import networks
from builder.build import adopted
from builder.build.entry import Entry
from builder.errors import NetworkError, WeightsError
from builder.networks.card import Card, require_own
from builder.tasks.task import Reference
from builder.types import Network, NetworkRequest, Report

if TYPE_CHECKING:
    from torch import nn


def study(entry: Entry, report: Report) -> tuple[nn.Module, Reference]:
    """The network with its head, and all that its artifacts are held to. Raises BuilderError."""
    import torch

    torch.set_num_threads(entry.build_threads)
    report("making the network")
    return entry.task.study(entry, make_network(entry), report)


OF_NETWORKS = ("classification", "detection", "segmentation", "text")
"""Tasks that known networks are made for; embeddings are made of any that see pictures."""
TEXT, ANY = "text", "tensors"


def make_network(entry: Entry) -> Network:
    """The network as its family makes it, with what a card says of its weights; or the user's own file, run here.

    Raises ManifestError, NetworkError, WeightsError, ExportError.
    """
    spec = entry.spec
    if entry.artifact:
        return adopted.network(entry.artifact, spec.reference, entry.base, entry.target)
    _require_task(entry)
    request = NetworkRequest(spec.network, entry.weights, spec.arguments, entry.base)
    if entry.card and entry.weights.path:
        require_own(entry.card, entry.weights.path)
    with _placed(entry):
        network = networks.find(spec.network).make(request)
    _require_made_for(entry, network)
    return _as_trained(network, entry.card) if entry.card else network


def _require_task(entry: Entry) -> None:
    """Raise ManifestError for a known network of another task; a callable may be for anything."""
    network, task = entry.spec.network, entry.spec.task
    with _placed(entry):
        known = networks.made_for(network, entry.base)
    if known == task or task == ANY or known is None:
        return
    if task in OF_NETWORKS or known == TEXT:
        raise entry.error(f"{network} is a network for {known}; write `task: {known}`", "network")


@contextmanager
def _placed(entry: Entry) -> Iterator[None]:
    """Within it, what is wrong with the network or its weights is told with the place of the entry's key."""
    try:
        yield
    except (NetworkError, WeightsError) as error:
        if not entry.manifest.is_read:
            raise
        is_of_weights = isinstance(error, WeightsError) and entry.manifest.says(entry.name, "weights")
        told = entry.error(str(error), "weights" if is_of_weights else "network")
        raise type(error)(str(told)) from error.__cause__


def _require_made_for(entry: Entry, network: Network) -> None:
    """Raise ManifestError for a network that gives something else with its weights and arguments."""
    if network.task is None or entry.spec.task not in OF_NETWORKS or network.task == entry.spec.task:
        return
    why = ""
    if network.task == "embedding":
        why = "gives vectors, and no classes, with these weights and arguments"
    raise entry.error(
        f"{entry.spec.network} {why or f'is a network for {network.task}'}; write `task: {network.task}`", "network"
    )


def _as_trained(network: Network, card: Card) -> Network:
    scalars = {key: value for key, value in card.metrics.items() if isinstance(value, int | float)}
    facts = {f"training_{key}": f"{value:.6g}" for key, value in scalars.items()}
    provenance = network.provenance | {"training_data": str(card.data.get("name", ""))} | facts
    return replace(network, recipe=card.recipe, labels=card.labels, provenance=provenance)

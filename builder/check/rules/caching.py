"""Response cache: which schedulers and transaction policies it goes with."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check.findings import Edit, Finding, Level, Rule
from builder.check.model import Context, Model

SOURCE = "core: src/model_config_utils.cc"
WITH_SEQUENCES = Rule(
    "TMR551",
    "response-cache-with-sequences",
    Level.ERROR,
    "A response cache is enabled for a model with sequence batching.",
    "An answer depends on the sequence's earlier requests, so the server keeps none of such models.",
    "Leave response_cache out, or the sequence batching.",
    SOURCE,
)
WITH_DECOUPLED = Rule(
    "TMR552",
    "response-cache-with-decoupled",
    Level.ERROR,
    "A response cache is enabled for a decoupled model.",
    "Such a model may answer a request many times or never, and the server keeps no such answers.",
    "Leave response_cache out, or the decoupled transaction policy.",
    SOURCE,
)
RULES = (WITH_SEQUENCES, WITH_DECOUPLED)


def check(model: Model, context: Context) -> Iterator[Finding]:
    config = model.filled
    if not config.response_cache.enable:
        return
    if config.HasField("sequence_batching"):
        yield _told(model, WITH_SEQUENCES, "sequence batching", "with sequence batching scheduler")
    elif config.model_transaction_policy.decoupled:
        yield _told(model, WITH_DECOUPLED, "a decoupled transaction policy", "with 'decoupled' transaction policy")


def _told(model: Model, rule: Rule, beside: str, words: str) -> Finding:
    path = ("response_cache", "enable")
    span = model.config.spans.get(path)
    edits = (Edit(span.start, span.end, "enable: false"),) if span else ()
    return model.finding(rule, f"response_cache is enabled beside {beside}", *path, server=words, edits=edits)

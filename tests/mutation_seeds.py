"""Models that load, each of some fields, together of all: what tests/mutating.py breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HERE = "HERE"
"""In the texts: what the models' own names begin with."""
IO = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
CPU = "instance_group [ { kind: KIND_CPU } ]\n"


@dataclass(frozen=True)
class Part:
    """A model's folder."""

    text: str
    folders: tuple[str, ...] = ("1",)
    files: Mapping[str, bytes] = field(default_factory=dict)


Seed = Mapping[str, Part]
"""By the endings of their names."""


def _one(text: str, folders: tuple[str, ...] = ("1",), files: Mapping[str, bytes] | None = None) -> Seed:
    return {"": Part(text.strip() + "\n", folders, files or {})}


PLAIN = _one('name: "HERE"\nbackend: "custom"\n' + IO)
TYPES = _one(
    """
backend: "custom"
max_batch_size: 8
input [
  { name: "image" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ 224, 224, 3 ] },
  { name: "text" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "mask" data_type: TYPE_BOOL dims: [ 4, -1 ] optional: true }
]
output [
  { name: "scores" data_type: TYPE_FP16 dims: [ 10 ] label_filename: "labels.txt" },
  { name: "boxes" data_type: TYPE_INT64 dims: [ -1, 4 ] }
]
"""
    + CPU,
    files={"labels.txt": b"one\ntwo\n"},
)
FORMATS = _one(
    """
backend: "custom"
input { name: "a" data_type: TYPE_FP32 format: FORMAT_NCHW dims: 3 dims: 8 dims: 8 }
input { name: "b" data_type: TYPE_BF16 dims: 2 }
output { name: "c" data_type: TYPE_FP64 dims: 1 }
"""
)
RESHAPED = _one(
    """
backend: "custom"
max_batch_size: 4
input [
  { name: "a" data_type: TYPE_INT32 dims: [ 1 ] reshape { shape: [ ] } },
  { name: "b" data_type: TYPE_FP32 dims: [ 6, -1, 2 ] reshape { shape: [ 2, 3, -1, 2 ] } }
]
output [ { name: "c" data_type: TYPE_FP32 dims: [ 4, 3 ] reshape: { shape: [ 12 ] } } ]
"""
)
UNBATCHED_RESHAPE = _one(
    """
backend: "custom"
max_batch_size: 0
input [ { name: "a" data_type: TYPE_INT8 dims: [ 4 ] reshape { shape: [ 2, 2 ] } } ]
output [ { name: "c" data_type: TYPE_UINT16 dims: [ 6 ] reshape { shape: [ 1, 6 ] } } ]
"""
)
LATEST = _one('backend: "custom"\nversion_policy: { latest { num_versions: 2 } }\n' + IO, ("1", "2", "10"))
ALL = _one('backend: "custom"\nversion_policy: { all { } }\n' + IO, ("1", "3"))
SPECIFIC = _one('backend: "custom"\nversion_policy: { specific { versions: [ 1, 3 ] } }\n' + IO, ("1", "2", "3"))
GROUPS = _one(
    'name: "HERE"\nbackend: "custom"\n'
    + IO
    + """
instance_group [
  { name: "first" count: 2 kind: KIND_CPU host_policy: "cpu" },
  { count: 1 kind: KIND_CPU rate_limiter {
    resources [ { name: "R1" count: 4 }, { name: "R2" global: true count: 2 } ] priority: 2 } },
  { kind: KIND_MODEL passive: true profile: [ ] }
]
""",
)
RATES = _one(
    'backend: "custom"\n'
    + IO
    + 'instance_group [ { count: 2 kind: KIND_CPU rate_limiter { resources { name: "R" global: true count: 1 } '
    "priority: 1 } } ]",
)
OPTIMIZED = _one(
    'backend: "custom"\nmax_batch_size: 16\n'
    + IO
    + CPU
    + """
optimization {
  graph { level: 1 }
  priority: PRIORITY_MAX
  cuda { graphs: true busy_wait_events: true output_copy_stream: true
    graph_spec { batch_size: 4 input { key: "x" value { dim: [ 3 ] } }
      graph_lower_bound { batch_size: 2 input { key: "x" value { dim: [ 3 ] } } } } }
  execution_accelerators {
    cpu_execution_accelerator [ { name: "openvino" parameters { key: "a" value: "1" } } ]
    gpu_execution_accelerator [ { name: "tensorrt" parameters { key: "precision_mode" value: "FP16" } } ]
  }
  input_pinned_memory { enable: false }
  output_pinned_memory { enable: true }
  gather_kernel_buffer_threshold: 8
  eager_batching: true
}
"""
)
EXTRAS = _one(
    'name: "HERE"\nbackend: "custom"\nruntime: ""\ndefault_model_filename: "model.bin"\n'
    + IO
    + CPU
    + """
cc_model_filenames { key: "7.5" value: "model.7.bin" }
metric_tags { key: "team" value: "vision" }
parameters { key: "threads" value { string_value: "4" } }
parameters { key: "mode" value: { string_value: "fast" } }
model_operations { op_library_filename: [ ] }
model_transaction_policy { decoupled: false }
response_cache { enable: false }
"""
)
DECOUPLED = _one('backend: "custom"\nmodel_transaction_policy { decoupled: true }\n' + IO)
CACHED = _one('backend: "custom"\nmax_batch_size: 2\nresponse_cache { enable: true }\n' + IO + CPU)
DYNAMIC = _one(
    'backend: "custom"\nmax_batch_size: 8\n'
    + IO
    + """
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  preserve_ordering: true
}
"""
)
QUEUES = _one(
    'backend: "custom"\nmax_batch_size: 8\n'
    + IO
    + """
dynamic_batching {
  max_queue_delay_microseconds: 50
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 1000
    allow_timeout_override: true max_queue_size: 10 }
  priority_queue_policy { key: 1 value { timeout_action: DELAY max_queue_size: 5 } }
  priority_queue_policy { key: 3 value { default_timeout_microseconds: 10 } }
}
"""
)
RAGGED = _one(
    """
backend: "custom"
max_batch_size: 16
input [ { name: "r" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true },
        { name: "s" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
batch_input [ { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "index" data_type: TYPE_FP32 source_input: "r" },
              { kind: BATCH_ELEMENT_COUNT target_name: "count" data_type: TYPE_INT32 source_input: "r" } ]
batch_output [ { target_name: "y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "r" } ]
dynamic_batching { }
"""
)
SEQUENCE = _one(
    'backend: "custom"\nmax_batch_size: 4\n'
    + IO
    + """
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  direct { max_queue_delay_microseconds: 10 minimum_slot_utilization: 0.5 }
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
}
"""
    + CPU
)
OLDEST = _one(
    'backend: "custom"\nmax_batch_size: 4\n'
    + IO
    + """
sequence_batching {
  oldest { max_candidate_sequences: 6 preferred_batch_size: [ 2, 4 ]
    max_queue_delay_microseconds: 100 preserve_ordering: true }
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]
}
"""
)
STATES = _one(
    'backend: "custom"\n'
    + IO
    + """
sequence_batching {
  direct { }
  state [
    { input_name: "in" output_name: "out" data_type: TYPE_FP32 dims: [ 2, -1 ]
      initial_state { name: "zero" data_type: TYPE_FP32 dims: [ 2, 3 ] zero_data: true } },
    { input_name: "in2" output_name: "out2" data_type: TYPE_INT32 dims: [ 2 ]
      use_same_buffer_for_input_output: true
      initial_state { name: "file" data_type: TYPE_INT32 dims: [ 2 ] data_file: "two" } }
  ]
}
"""
    + CPU,
    files={"initial_state/two": bytes(8)},
)
ITERATIVE = _one(
    'backend: "custom"\nmax_batch_size: 2\nmodel_transaction_policy { decoupled: true }\n'
    + IO
    + "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 2 } }\n"
)
WARM = _one(
    """
backend: "custom"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }, { name: "t" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
model_warmup [
  { name: "zero" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] zero_data: true } }
    inputs { key: "t" value { data_type: TYPE_STRING dims: [ 1 ] zero_data: true } } },
  { name: "file" batch_size: 2 count: 2
    inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] input_data_file: "six" } }
    inputs { key: "t" value { data_type: TYPE_STRING dims: [ 1 ] input_data_file: "words" } } }
]
"""
    + CPU,
    files={"warmup/six": bytes(24), "warmup/words": b"\2\0\0\0bc"},
)
RANDOM = _one(
    'backend: "custom"\n'
    + IO
    + 'model_warmup { name: "random" batch_size: 0 inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 3 ] '
    "random_data: true } } }\n"
)
TORCH = _one(
    'platform: "pytorch_libtorch"\nmax_batch_size: 2\n'
    + IO.replace('"x"', '"INPUT__0"').replace('"y"', '"OUTPUT__0"')
    + CPU,
    files={"1/model.pt": b""},
)
ONNX = _one('backend: "onnxruntime"\ndefault_model_filename: "model.onnx"\n' + IO, files={"1/model.onnx": b""})
STEP = 'backend: "custom"\n' + IO
CHAIN: Seed = {
    "e": Part(
        'name: "HEREe"\nplatform: "ensemble"\n'
        + IO
        + """
ensemble_scheduling {
  step [
    { model_name: "HEREa" model_version: -1
      input_map { key: "x" value: "x" } output_map { key: "y" value: "between" } },
    { model_name: "HEREb" model_version: 1 input_map { key: "x" value: "between" } output_map { key: "y" value: "y" } }
  ]
}
"""
    ),
    "a": Part(STEP),
    "b": Part(STEP),
}
BATCHED_STEP = 'backend: "custom"\nmax_batch_size: 8\n'
BRANCHES: Seed = {
    "e": Part(
        """
platform: "ensemble"
max_batch_size: 4
input [ { name: "raw" data_type: TYPE_UINT8 dims: [ -1 ] }, { name: "scale" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "label" data_type: TYPE_STRING dims: [ -1 ] }, { name: "score" data_type: TYPE_FP32 dims: [ 5 ] } ]
ensemble_scheduling {
  step [
    { model_name: "HEREa" model_version: -1
      input_map { key: "bytes" value: "raw" } input_map { key: "scale" value: "scale" }
      output_map { key: "image" value: "image" } },
    { model_name: "HEREb" model_version: -1
      input_map { key: "image" value: "image" }
      output_map { key: "label" value: "label" } output_map { key: "score" value: "score" } }
  ]
}
"""
    ),
    "a": Part(
        BATCHED_STEP
        + """
input [ { name: "bytes" data_type: TYPE_UINT8 dims: [ -1 ] },
        { name: "scale" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ]
output [ { name: "image" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
"""
    ),
    "b": Part(
        BATCHED_STEP
        + """
input [ { name: "image" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] } ]
output [ { name: "label" data_type: TYPE_STRING dims: [ 1 ] }, { name: "score" data_type: TYPE_FP32 dims: [ 5 ] } ]
dynamic_batching { }
""",
        ("1", "2"),
    ),
}
NESTED: Seed = {
    "e": Part(
        """
platform: "ensemble"
input [ { name: "q" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "z" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling { step { model_name: "HEREi" model_version: -1
  input_map { key: "x" value: "q" } output_map { key: "y" value: "z" } } }
"""
    ),
    "i": Part(
        'platform: "ensemble"\n'
        + IO
        + """
ensemble_scheduling { step { model_name: "HEREa" model_version: 2
  input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }
"""
    ),
    "a": Part("version_policy { all { } }\nmodel_transaction_policy { decoupled: true }\n" + STEP, ("1", "2")),
}
SEEDS: Mapping[str, Seed] = {
    name.lower(): found for name, found in list(globals().items()) if name.isupper() and isinstance(found, dict)
}

"""Static int8 quantisation of ONNX graphs by ONNX Runtime, in steps that hold the weights once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.exporters.quiet import quiet, tell_nobody
from builder.types import Calibration


@dataclass(frozen=True)
class Scheme:
    """What the engine that will run the Q/DQ graph is fast at."""

    activation_type: str
    reduce_range: bool
    """7-bit weights: CPUs without VNNI add pairs of products in 16 bits, which 8-bit weights overflow."""
    options: dict[str, Any] = field(default_factory=dict)
    operators: tuple[str, ...] = ()
    """To quantise; all that can be, but the softmax, if empty."""


FOR_CPUS = Scheme("QUInt8", reduce_range=True)
# See `arguments.reads_numbers`.
OF_TOKENS = Scheme("QUInt8", reduce_range=True, operators=("Conv", "ConvTranspose", "Gemm", "MatMul"))
# TensorRT fuses symmetric Q/DQ in front of what carries the weights, and keeps biases as they are. Behind
# it, they would round what the following operators are to be fused with.
WEIGHTED = ("Conv", "Gemm", "MatMul")
FOR_TENSORRT = Scheme(
    "QInt8",
    reduce_range=False,
    options={
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
    },
    operators=WEIGHTED,
)


def quantize(graph: Path, calibration: Calibration, scheme: Scheme) -> Path:
    """A quantised graph beside `graph`, whose weights are in a file of their own."""
    import onnx

    tell_nobody()
    with quiet():
        inferred = graph.with_name("inferred.onnx")
        onnx.shape_inference.infer_shapes_path(str(graph), str(inferred))
        operators = scheme.operators or _operators()
        ranges = _ranges(inferred, calibration, operators)
        return _quantized(inferred, ranges, operators, scheme)


def _operators() -> tuple[str, ...]:
    """All but Softmax: 8 bits for probabilities would leave steps of 1/256."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return tuple(sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax"}))


def _ranges(graph: Path, calibration: Calibration, operators: tuple[str, ...]) -> Any:
    """The least and greatest value of each activation over the calibration."""
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationDataReader, MinMaxCalibrater

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(calibration)

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return batch and {name: tensor.numpy() for name, tensor in batch.items()}

    augmented = graph.with_name("augmented.onnx")
    # Its max_intermediate_outputs forgets what it held; two numbers a tensor and batch are little to hold.
    calibrator = MinMaxCalibrater(graph, operators, str(augmented))
    # In the place of the same graph with its weights in memory; the session reads them from their file.
    calibrator.model = onnx.load(str(graph), load_external_data=False)
    calibrator.augment_graph()
    calibrator.create_inference_session()
    calibrator.collect_data(Reader())
    return calibrator.compute_data()


def _quantized(graph: Path, ranges: Any, operators: tuple[str, ...], scheme: Scheme) -> Path:
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    model = onnx.load(str(graph))
    add_infer_metadata(model)  # its shapes are known, or the quantiser would save and load it whole once more
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType[scheme.activation_type],
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(operators),
        extra_options=dict(scheme.options),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # ONNX Runtime reads graphs in any order, and others do not
    result = graph.with_name("quantized.onnx")
    onnx.save(
        quantizer.model.model,
        str(result),
        save_as_external_data=True,
        location=f"{result.name}.data",
        size_threshold=1024,
    )
    return result

"""Networks with any inputs and outputs: what is found out of them, and what their artifacts are held to."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_entries import compared, entry_at, entry_of, running, studied
from torch import nn

from builder.errors import BuilderError, ExportError, ManifestError, VerificationError
from builder.networks.heads import with_head
from builder.tasks import TASKS, tensors
from builder.tasks.tensors.calling import Mismatch, arranged
from builder.tasks.tensors.limits import LIMITS, limits
from builder.tasks.tensors.results import layout_of, named
from builder.tasks.tensors.samples import SampleSet, batch_sizes
from builder.tasks.tensors.spec import TensorsSpec
from builder.triton.signature import TensorSpec, data_type_of
from builder.types import Network

BAD = Path(__file__).parent / "manifests" / "tensors"
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((6, 4)).astype("float32")


class Encoder(nn.Module):
    """A transformer's encoder of one layer, for token ids and their mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        hidden = self.layer(self.embedding(ids), src_key_padding_mask=mask == 0)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return {
            "last_hidden": hidden,
            "pooled": (hidden * weights).sum(1) / weights.sum(1),
            "attentions": None,
            "label": hidden[:, 0, :1].gt(0).long(),
        }


def tokens(*shapes: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"ids": RNG.integers(0, 50, shape), "mask": np.ones(shape, "int64")} for shape in shapes]


class Calling(nn.Module):
    """Whatever a function makes of the inputs, beside a parameter."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x * self.scale)


def test_the_task_is_registered() -> None:
    assert TASKS["tensors"] is tensors


# --- what is found out of a network ---


def test_names_types_and_shapes_come_from_samples_and_results(tmp_path: Path) -> None:
    for number, arrays in enumerate(tokens((3, 6), (2, 9))):
        np.savez(tmp_path / f"{number}.npz", **arrays)
    entry = entry_of(tmp_path, "samples: [0.npz, 1.npz]\nmax_batch_size: 4")
    head, reference = studied(entry, Encoder())
    assert reference.signature.inputs == (TensorSpec("ids", "INT64", (-1,)), TensorSpec("mask", "INT64", (-1,)))
    assert reference.signature.outputs == (
        TensorSpec("last_hidden", "FP32", (-1, 8)),
        TensorSpec("pooled", "FP32", (8,)),
        TensorSpec("label", "INT64", (1,)),
    )
    assert reference.signature.batched
    assert "5 samples of 0.npz, 1.npz" in reference.provenance["verified_on"]
    found = tensors.verify(entry, reference, running(head, reference))
    assert (found.batch_sizes, found.max_abs_error, found.noise) == ((1, 2, 3, 4), 0, 0)
    assert [one.name for one in found.outputs] == ["last_hidden", "pooled", "label"]
    tensors.hold(entry, reference, found, "net")


def test_the_head_takes_inputs_by_position_and_half_precision_reaches_the_network(tmp_path: Path) -> None:
    (arrays,) = tokens((3, 6))
    head, reference = studied(entry_of(tmp_path, "outputs: [pooled]", **arrays), Encoder())
    module: Any = head
    module.network.to(torch.float16)
    assert all(parameter.dtype == torch.float16 for parameter in head.parameters())
    batch = next(iter(reference.samples.batches(2)))
    assert head(batch["ids"], batch["mask"]).dtype == torch.float32
    assert module.forward.__code__.co_varnames[1:3] == ("INPUT__0", "INPUT__1")


def test_inputs_go_by_forwards_names_in_any_order(tmp_path: Path) -> None:
    (arrays,) = tokens((3, 6))
    text = "inputs: {mask: {dtype: INT64, shape: [6]}, ids: {dtype: INT64, shape: [6]}}\noutputs: [pooled]"
    _, reference = studied(entry_of(tmp_path, text, **arrays), Encoder())
    assert [spec.name for spec in reference.signature.inputs] == ["ids", "mask"]
    assert [spec.shape for spec in reference.signature.inputs] == [(6,), (6,)]


def test_other_names_go_in_the_order_declared(tmp_path: Path) -> None:
    class Minus(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
            return a - 2 * b if c is None else c

    declared = "inputs: {'in:1': {dtype: FP32, shape: [4]}, 'in:0': {dtype: FP32, shape: [4]}}\nmax_batch_size: 2"
    entry = entry_of(tmp_path, declared, **{"in:0": ROWS, "in:1": ROWS[::-1].copy()})
    _, reference = studied(entry, Minus())
    (alone, *_) = reference.answers.batches
    assert torch.allclose(alone["output"][0], torch.from_numpy(ROWS[-1] - 2 * ROWS[0]))


def test_keyword_only_arguments_and_what_has_a_default(tmp_path: Path) -> None:
    class Keyword(nn.Module):
        def forward(self, a: torch.Tensor, skipped: int = 2, *, b: torch.Tensor) -> torch.Tensor:
            return a * skipped - b

    _, reference = studied(entry_of(tmp_path, b=ROWS, a=ROWS * 3), Keyword())
    assert torch.allclose(reference.answers.batches[0]["output"][0], torch.from_numpy(ROWS[0] * 5))


def test_what_runs_a_file_is_called_in_the_files_order() -> None:
    class OfAFile(nn.Module):
        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return given[0] - given[1]

    found = arranged(OfAFile(), ("y:0", "x:0"), True, told=("x:0", "y:0"))
    assert found.call(OfAFile(), [T + 3, T]).unique().tolist() == [3]
    for names, message in ((("x:0", "z:0"), "takes no 'z:0'"), (("x:0",), "needs y:0 too")):
        with pytest.raises(Mismatch, match=message):
            arranged(OfAFile(), names, True, told=("x:0", "y:0"))


def test_scripted_networks_say_what_they_take(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return a + b, a - b

    scripted = torch.jit.script(Both())
    _, reference = studied(entry_of(tmp_path, "outputs: [sum, difference]", b=ROWS, a=ROWS * 3), scripted)
    assert [spec.name for spec in reference.signature.inputs] == ["a", "b"]
    assert torch.allclose(reference.answers.batches[0]["difference"][0], torch.from_numpy(ROWS[0] * 2))


def test_networks_that_do_not_batch(tmp_path: Path) -> None:
    """Each file is one sample; what the values decide may have any size."""
    for number, rows in enumerate((3, 5, 4)):
        np.savez(tmp_path / f"{number}.npz", x=RNG.standard_normal((rows, 2)).astype("float32"))
    entry = entry_of(tmp_path, "max_batch_size: 0\nsamples: [0.npz, 1.npz, 2.npz]")
    found = compared(entry, Calling(lambda x: {"sum": x.sum(0), "chosen": x[x > 0]}))
    assert found.batch_sizes == (1,)
    _, reference = studied(entry, Calling(lambda x: {"sum": x.sum(0), "chosen": x[x > 0]}))
    assert not reference.signature.batched
    assert [spec.shape for spec in reference.signature] == [(-1, 2), (2,), (-1,)]


def test_lazy_modules_settle_on_the_first_sample(tmp_path: Path) -> None:
    entry, batch = entry_of(tmp_path, x=ROWS), torch.from_numpy(ROWS)
    head, reference = studied(entry, nn.Sequential(nn.LazyLinear(3), nn.ReLU()))
    again = Network(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), None, None, False, {})
    assert torch.equal(head(batch), tensors.head(entry, again, reference)(batch))  # drawn with the entry's seed
    assert reference.signature.outputs == (TensorSpec("output", "FP32", (3,)),)


def test_an_axis_declared_to_have_any_size_is_tried_at_another(tmp_path: Path) -> None:
    (arrays,) = tokens((3, 6))
    text = "inputs: {ids: {dtype: INT64, shape: [-1]}, mask: {dtype: INT64, shape: [-1]}}\noutputs: [last_hidden]"
    entry = entry_of(tmp_path, text, **arrays)
    _, reference = studied(entry, Encoder())
    assert reference.signature.outputs[0].shape == (-1, 8)
    assert {reference.samples.name(number) for number in range(len(reference.samples))} > {"samples.npz[0], cut by one"}


def test_drawn_samples_are_of_several_sizes_and_warned_of(tmp_path: Path) -> None:
    ids, mask = (f"{{dtype: INT64, shape: [-1], range: {limits}}}" for limits in ([0, 50], [1, 2]))
    text = f"inputs: {{ids: {ids}, mask: {mask}}}\noutputs: {{hidden: last_hidden}}"
    entry = entry_of(tmp_path, text)
    _, reference = studied(entry, Encoder())
    assert reference.signature.outputs == (TensorSpec("hidden", "FP32", (-1, 8)),)
    assert "drawn at random" in reference.warnings[0]
    drawn = torch.cat([batch["ids"].flatten() for batch in reference.samples.batches(1)])
    assert (drawn.min() >= 0, drawn.max() < 50, drawn.unique().numel() > 30) == (True, True, True)


def test_examples_are_a_batch_of_two_of_a_size_that_is_not_one(tmp_path: Path) -> None:
    for number, arrays in enumerate(tokens((4, 1), (1, 7))):
        np.savez(tmp_path / f"{number}.npz", **arrays)
    entry = entry_of(tmp_path, "samples: [0.npz, 1.npz]\noutputs: [pooled]\nmax_batch_size: 1")
    _, reference = studied(entry, Encoder())
    assert next(iter(reference.samples.batches(2)))["ids"].shape == (2, 7)


def test_one_number_a_sample_needs_no_axis_of_its_own(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return (x * scale.unsqueeze(1)).sum(1)

    entry = entry_of(tmp_path, x=ROWS, scale=ROWS[:, 0])
    _, reference = studied(entry, Scaled())
    assert [spec.shape for spec in reference.signature] == [(4,), (), ()]
    compared(entry, Scaled())
    with pytest.raises(VerificationError, match=r"worst in samples.npz\[\d\] at \[\]: network"):
        compared(entry, Scaled(), lambda _, t: t + 1)


# --- results ---


class Two(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Box:
    inside: Any
    nothing: Any = None


T = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (T, ["output"]),
        ((T, T), ["output_0", "output_1"]),
        ([T], ["output_0"]),
        (Two(T, T), ["first", "second"]),
        (Box(T), ["inside"]),
        (OrderedDict(a=T, b=None), ["a"]),
        ({"hidden": (T, T), "last": T}, ["hidden_0", "hidden_1", "last"]),
        ((T, (T, None)), ["output_0", "output_1_0"]),
        ({"a": {"b": T}, "c": Two(T, T)}, ["a_b", "c_first", "c_second"]),
    ],
)
def test_results_are_named(result: Any, names: list[str]) -> None:
    layout = layout_of(result, None)
    assert list(layout.outputs) == names
    assert len(layout.picked(result)) == len(names)


@pytest.mark.parametrize(
    ("result", "wanted", "sources"),
    [
        ((T, T), ("a", "b"), ("output_0", "output_1")),
        ((T, T), {"b": "output_1"}, ("output_1",)),
        ({"a": T, "b": T}, ("b",), ("b",)),
        ({"a": T, "cache": object()}, {"x": "a"}, ("a",)),
        (T, ("scores",), ("output",)),
    ],
)
def test_the_manifest_names_and_chooses(result: Any, wanted: Any, sources: tuple[str, ...]) -> None:
    layout = layout_of(result, wanted)
    assert (layout.outputs, layout.sources) == (tuple(wanted), sources)


@pytest.mark.parametrize(
    ("result", "wanted", "message"),
    [
        ({"pooled": T}, ("poled",), "gives no 'poled'; did you mean 'pooled'"),
        ({"pooled": T}, ("x",), "outputs: {x: pooled}"),
        ({"pooled": T}, {"x": "y"}, "it gives pooled"),
        ((T, T), ("a",), "gives 2 tensors, and 1 are named"),
        ({"loss": 1.5}, None, "'loss' is a float; let it give a tensor, such as x.new_tensor"),
        ({"a": {"b": {"c": T}}}, None, "too deep"),
        (Two(None, None), None, "gives nothing"),
        ({"a_b": T, "a": {"b": T}}, None, "would be called 'a_b'"),
        (T.to_sparse(), None, "sparse"),
        (torch.zeros(2, dtype=torch.complex64), None, "view_as_real"),
        (object(), None, "is a object"),
    ],
)
def test_what_cannot_be_served_is_told(result: Any, wanted: Any, message: str) -> None:
    with pytest.raises((ExportError, ValueError), match=message):
        layout_of(result, wanted)


PARTS = st.recursive(
    st.one_of(st.just(T), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from("abc_"), inner, max_size=3),
        st.builds(Box, inner),
    ),
    max_leaves=6,
)


@given(PARTS)
def test_every_result_is_served_whole_or_refused(result: Any) -> None:
    try:
        layout = layout_of(result, None)
    except ExportError:
        return
    picked = layout.picked(result)
    assert len(picked) == len(set(layout.outputs))
    assert all(tensor is T for tensor in picked)
    assert sum(value is T for value in named(result).values()) == len(picked)


# --- what the network itself does wrong ---


def leaky(x: torch.Tensor) -> torch.Tensor:
    return x.add_(1)


@pytest.mark.parametrize(
    ("function", "text", "message"),
    [
        (lambda x: x + torch.rand(()), "", "other answers when it is run twice"),
        (lambda x: x - x.mean(0), "", "depends on the other samples"),
        (lambda x: x @ x.T, "", "depends on the other samples"),
        (lambda x: x / 0, "", "infinite numbers in 'output'"),
        (lambda x: x.where(x != x.max(), float("nan")), "", "NaN in 'output' for samples.npz"),
        (lambda x: x.mean(), "", "one number without an axis for a batch"),
        (lambda x: x.unsqueeze(0), "", r"give x.transpose\(0, 1\)"),
        (lambda x: (x, torch.ones(1, 5)), "", r"'output_1' is \[1, 5\] for a batch of 8.*expand"),
        (lambda x: x[:0], "", "must be the batch"),
        (lambda x: x.reshape(-1, 2), "", "or set `max_batch_size: 0`"),
        (lambda x: x.sum(), "max_batch_size: 0", r"x.reshape\(1\)"),
        (lambda x: x.mean(0, keepdim=True).expand_as(x).argmax(1, keepdim=True), "", "numbers"),
        (lambda x: None if len(x) > 1 else x, "", "None for some samples"),
        (lambda x: {"a": x, "b": x if len(x) > 1 else None}, "", "None for some samples"),
        (lambda x: x.missing, "", "the network fails on a batch of 1 sample: x \\[1, 4\\]"),
        (lambda x: x[:, :0], "", "empty for all samples"),
    ],
)
def test_faults_of_the_network_are_told(function: Any, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match=message) as caught:
        studied(entry_of(tmp_path, text, x=ROWS), Calling(function))
    assert not isinstance(caught.value, ManifestError)


@pytest.mark.parametrize("function", [leaky, lambda x: x, lambda x: (x, leaky(x))])
def test_what_is_done_in_place_stays_there(function: Any, tmp_path: Path) -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return function(x)

    _, reference = studied(entry_of(tmp_path, x=ROWS), InPlace())
    *_, last = reference.answers.batches
    again = torch.cat([batch["x"] for batch in reference.samples.batches(8)])
    assert torch.equal(again[:6], torch.from_numpy(ROWS))
    assert not torch.equal(last[next(iter(last))], torch.zeros_like(again))


def test_what_depends_on_the_batch_may_be_served_alone(tmp_path: Path) -> None:
    compared(entry_of(tmp_path, "max_batch_size: 1", x=ROWS), Calling(lambda x: x - x.mean(0) + x))


def test_remarks(tmp_path: Path) -> None:
    _, reference = studied(entry_of(tmp_path, x=ROWS), Calling(lambda x: {"y": x, "c": torch.ones(len(x), 2)}))
    assert [warning for warning in reference.warnings if "change nothing in c," in warning]
    _, reference = studied(entry_of(tmp_path, x=ROWS[:1]), Calling(lambda x: x))
    assert [warning for warning in reference.warnings if "one sample alone" in warning]


# --- what an artifact is held to ---


def outputs_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """As an untrained network's: hardly different for different samples. And classes, and a flag."""
    return {"y": 5 + 1e-3 * x, "label": x.argmax(1, keepdim=True), "flag": x > 0}


def first_row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:1].expand_as(tensor).clone()


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("output", ["y", "label", "flag"])
def test_an_artifact_that_ignores_its_input_fails(precision: str, output: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "calibration.npz", x=ROWS)
    entry = entry_of(tmp_path, f"precision: {precision}\ncalibration: calibration.npz", x=ROWS)
    constant = {"y": torch.full((4,), 5.0), "label": torch.tensor([1]), "flag": torch.ones(4, dtype=torch.bool)}

    def ignoring(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return constant[name].expand_as(tensor).clone() if name == output else tensor

    with pytest.raises(VerificationError, match=rf"\n  {output}: .*worst in samples.npz\[\d\] at \["):
        compared(entry, Calling(outputs_of), ignoring)
    compared(entry, Calling(outputs_of))


def test_one_wrong_number_of_one_sample_fails_and_is_named(tmp_path: Path) -> None:
    wrong = outputs_of(2 * torch.from_numpy(ROWS[3:4]))["y"]

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name == "y":
            return tensor + 1e-3 * (tensor == wrong).all(1, keepdim=True) * torch.tensor([0, 0, 1, 0])
        return tensor

    with pytest.raises(VerificationError) as caught:
        compared(entry_of(tmp_path, x=ROWS), Calling(outputs_of), change)
    message = str(caught.value)
    assert "worst in samples.npz[3] at [2]: network" in message
    assert "the largest error, as a share of what the samples change" in message
    assert "label" not in message


def test_rounding_is_no_error(tmp_path: Path) -> None:
    compared(
        entry_of(tmp_path, x=ROWS), Calling(outputs_of), lambda _, t: t * (1 + 2e-7) if t.is_floating_point() else t
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_fails(value: float, tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "tolerance: {max_rel_error: 9.0, noise: 9.0}", x=ROWS)
    with pytest.raises(VerificationError, match=f"artifact {value}"):
        compared(entry, Calling(outputs_of), lambda n, t: t.index_fill(1, torch.tensor([0]), value) if n == "y" else t)


def test_large_integers_are_compared_exactly(tmp_path: Path) -> None:
    large = np.arange(2**60, 2**60 + 6).reshape(6, 1)
    with pytest.raises(VerificationError, match=r"100\.00% of the numbers differ"):
        compared(entry_of(tmp_path, x=large), nn.Identity(), lambda _, t: t + 1)
    compared(entry_of(tmp_path, x=large), nn.Identity())


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "bool", "float16", "float64"])
def test_every_data_type(kind: str, tmp_path: Path) -> None:
    entry = entry_of(tmp_path, x=np.arange(6).reshape(6, 1).astype(kind))
    _, reference = studied(entry, nn.Identity())
    wanted = {"float16": "FP32", "float64": "FP64", "bool": "BOOL"}.get(kind, kind.upper())
    assert reference.signature.outputs == (TensorSpec("output", wanted, (1,)),)
    compared(entry, nn.Identity())


@pytest.mark.parametrize(
    ("tolerance", "passes"),
    [
        ("{max_rel_error: 0.5, noise: 0.5}", True),
        ("{max_abs_error: 0.001, max_rel_error: 0.5, noise: 0.5}", False),
        ("{mean_abs_error: 0.0001, max_rel_error: 0.5, noise: 0.5}", False),
        ("{y: {max_rel_error: 0.5, noise: 0.5}}", True),
        ("{label: {mismatches: 1.0}}", False),
        ("{max_rel_error: 0.0, noise: 0.0, y: {max_rel_error: 0.5, noise: 0.5}}", True),
        ("{max_rel_error: 0.5, noise: 0.5, y: {noise: 0.001}}", False),
    ],
)
def test_limits_of_all_and_of_one(tolerance: str, passes: bool, tmp_path: Path) -> None:
    entry = entry_of(tmp_path, f"tolerance: {tolerance}", x=ROWS)
    network = Calling(lambda x: {"y": x, "label": x.argmax(1, keepdim=True)})

    def noisy(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * 1.1 if name == "y" else tensor

    if passes:
        compared(entry, network, noisy)
    else:
        with pytest.raises(VerificationError, match=r"\n  y: "):
            compared(entry, network, noisy)


def test_integers_may_be_allowed_to_differ(tmp_path: Path) -> None:
    network = Calling(lambda x: {"label": x.argmax(1, keepdim=True)})
    compared(entry_of(tmp_path, "tolerance: {label: {mismatches: 1.0}}", x=ROWS), network, lambda _, t: t + 1)
    with pytest.raises(VerificationError, match=r"100\.00% of the numbers differ"):
        compared(entry_of(tmp_path, "tolerance: {max_rel_error: 9.0}", x=ROWS), network, lambda _, t: t + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, t: t.double(), r"gives FP64 \[1, 4\] as 'output' for a batch of 1 sample: x .* network FP32"),
        (lambda _, t: t[:, :3], r"gives FP32 \[1, 3\]"),
        (lambda _, t: t[:1].clone(), r"for a batch of 2 samples"),
        (lambda _, t: t.missing, "fails on a batch of 1 sample"),
    ],
)
def test_an_artifact_is_held_to_its_config(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=message):
        compared(entry_of(tmp_path, x=ROWS), Calling(lambda x: x), change)


def test_outputs_of_other_names_are_refused(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, x=ROWS)
    _, reference = studied(entry, Calling(lambda x: x))
    with pytest.raises(VerificationError, match=r"gives OUTPUT__0 for .*, not output"):
        tensors.verify(entry, reference, lambda batch: {"OUTPUT__0": batch["x"]})


def test_figures_are_those_of_the_limits(tmp_path: Path) -> None:
    found = compared(entry_of(tmp_path, x=ROWS), Calling(outputs_of))
    assert set(found.figures()) == {"max_abs_error", "mean_abs_error", "max_rel_error", "noise", "mismatches"}


# --- calibration and pipeline ---


def test_calibration_is_held_to_the_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", x=ROWS[:3])
    entry = entry_of(tmp_path, "calibration: good.npz", x=ROWS)
    _, reference = studied(entry, Calling(lambda x: x))
    found = tensors.calibration(entry, reference)
    assert found is not None
    assert [batch["x"].shape for _ in range(2) for batch in found] == [(1, 4)] * 6
    np.savez(tmp_path / "good.npz", x=ROWS[:3].astype("float64"))
    with pytest.raises(ManifestError, match=r"models.yaml:4: models.net.calibration: 'x' of good.npz\[0\] is FP64"):
        tensors.calibration(entry, reference)


def test_nothing_stands_around_the_network(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "inputs: {'a b': {dtype: FP32, shape: [4]}}\noutputs: ['é', y]", **{"a b": ROWS})
    _, reference = studied(entry, Calling(lambda x: (x, x + 1)))
    pipeline = tensors.pipeline(entry, reference, tmp_path / "steps")
    assert (pipeline.calls, pipeline.parameters) == ((), {})
    assert [spec.name for spec in pipeline.signature] == ["a b", "é", "y"]


# --- mistakes in the manifest ---


@pytest.mark.parametrize("path", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_bad_entries_are_refused_with_file_line_and_key(path: Path) -> None:
    """The first line of each file says what the message must hold, in parts."""
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(" | ")
    with pytest.raises(ManifestError) as caught:
        tensors.require(entry_at(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    for part in expected:
        assert part in message


class Pair(nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ids.float() * mask


INT = np.arange(12).reshape(6, 2)
IDS = "inputs: {ids: {dtype: INT64, shape: [2]}, mask: {dtype: INT64, shape: [2]}}"


@pytest.mark.parametrize(
    ("text", "arrays", "message"),
    [
        ("", {"ids": INT, "msk": INT}, "net.samples: the network takes no 'msk'; did you mean 'mask'"),
        ("", {"ids": INT}, "net.samples: the network needs mask too"),
        ("", {"a": INT, "b": INT}, "nothing says which is which"),
        ("", {"a": INT, "b": INT, "c": INT}, "there are 3 inputs, and forward() takes ids, mask"),
        (IDS, {"ids": INT}, "net.samples: the samples have no 'mask', which is an input; they have ids"),
        (IDS, {"ids": INT, "arr_0": INT}, "np.savez(file, NAME=array)"),
        ("", {"arr_0": INT, "arr_1": INT}, "net.samples: the samples have an array 'arr_0': np.savez calls arrays"),
        (IDS, {"ids": INT, "mask": INT, "maks": INT}, "'maks', which is no input; is 'mask' meant"),
        (IDS, {"ids": INT.astype("int32"), "mask": INT}, "net.inputs.ids.dtype: 'ids' is declared INT64, and samples"),
        (IDS, {"ids": INT.astype("int32"), "mask": INT}, ".astype('int64'), or declare INT32"),
        (
            IDS,
            {"ids": INT[:, :1], "mask": INT},
            "net.inputs.ids.shape: 'ids' is declared [2], and samples.npz",
        ),
        (IDS, {"ids": INT[:, None], "mask": INT}, "shapes are without the batch axis"),
        ("max_batch_size: 0", {"ids": np.int64(1), "mask": INT}, "'ids' is one number without an axis"),
        ("", {"ids": INT[:, :0], "mask": INT}, "'ids' is empty in all samples"),
        ("", {"ids": INT * (1 + 1j), "mask": INT}, "no data type for complex128"),
        ("", {"ids": np.where(INT == 5, np.nan, 1.0), "mask": INT}, "'ids' of samples.npz[2] holds NaN"),
        ("outputs: [ids]", {"ids": INT, "mask": INT}, "outputs: {ids_out: output}"),
        ("outputs: [a, b]", {"ids": INT, "mask": INT}, "net.outputs: forward() gives 1 tensors, and 2 are named"),
        ("outputs: {a: b}", {"ids": INT, "mask": INT}, "net.outputs.a: forward() gives no 'b'; it gives output"),
        ("tolerance: {a: {noise: 0.1}}", {"ids": INT, "mask": INT}, "net.tolerance.a: there is no output 'a'"),
        (
            "inputs: {ids: {dtype: INT64, shape: [2], range: [0, 11]}, mask: {dtype: INT64, shape: [2]}}",
            {"ids": INT, "mask": INT},
            "net.inputs.ids.range: samples.npz[5] holds numbers of 10 to 11",
        ),
    ],
)
def test_entries_that_do_not_fit_the_network(text: str, arrays: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        studied(entry_of(tmp_path, text, **arrays), Pair())
    assert str(caught.value).startswith(f"{tmp_path / 'models.yaml'}:")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("size", "message"),
    [(6, "declared to have any size, and has 6 in all samples; at 5 the network fails"), (1, "nothing shows another")],
)
def test_any_size_must_be_shown(size: int, message: str, tmp_path: Path) -> None:
    """The network takes even numbers alone, and the samples have one length."""
    entry = entry_of(tmp_path, "inputs: {x: {dtype: FP32, shape: [-1]}}", x=np.ones((4, size), "float32"))
    halves = Calling(lambda x: x.reshape(len(x), 2, -1).sum(1) if size > 1 else x)
    with pytest.raises(ManifestError, match=message):
        studied(entry, halves)


def test_files_are_named_for_other_machines(tmp_path: Path) -> None:
    text = "network: n.py:f\nsamples: [a.npz, b.npz]\ncalibration: s.py:f"
    assert entry_of(tmp_path, text).spec.files() == {
        ("network",): "n.py:f",
        ("samples", "data", 0): "a.npz",
        ("samples", "data", 1): "b.npz",
        ("calibration", "data"): "s.py:f",
    }


def test_a_recorded_entry_can_be_read_again(tmp_path: Path) -> None:
    limits = "tolerance: {noise: 0.5, y: {max_abs_error: 1.0}}"
    text = f"network: n.py:f\n{limits}\noutputs: {{y: z}}\nsamples: a.npz\nmax_batch_size: 0"
    spec = entry_of(tmp_path, text).spec
    assert tensors.SPEC.model_validate_json(spec.model_dump_json()) == spec
    assert tensors.SPEC.model_validate(spec.model_dump(mode="json", exclude_unset=True)) == spec


def test_what_is_recorded_keeps_the_limits(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "network: n.py:f\ntolerance: {y: {noise: 0.5}}")
    again = tensors.SPEC.model_validate_json(entry.spec.model_dump_json())
    assert isinstance(again, TensorsSpec)
    for spec in (entry.spec, again):
        assert limits("fp32", True, "y", spec.tolerance).model_dump(exclude_none=True) == {
            "max_rel_error": 1e-3,
            "noise": 0.5,
        }
        assert limits("int8", False, "y", spec.tolerance).mismatches == 0


# --- the samples' order, whatever they are ---


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 6))
def test_every_sample_is_asked_at_the_largest_size_and_batches_are_of_one_size(sizes: list[int], largest: int) -> None:
    from builder.data.arrays import Sample
    from builder.tasks.tensors.samples import arranged

    given_samples = [Sample(f"{n}", {"x": torch.full((size,), float(n))}) for n, size in enumerate(sizes)]
    found = arranged(given_samples, largest)
    plan = found.plan(batch_sizes(largest))
    for numbers in plan:
        assert 1 <= len(numbers) <= max(1, largest)
        batch = found.batch(numbers)["x"]
        assert (batch.shape[0] == len(numbers)) if largest else batch.ndim == 1
    assert {found.name(number) for numbers in plan for number in numbers} == {sample.name for sample in given_samples}
    assert {len(numbers) for numbers in plan} >= set(batch_sizes(largest)) - {3}
    assert sum(len(batch["x"]) if largest else 1 for batch in found.batches(2)) == len(found)


def test_the_first_few_are_asked_backwards() -> None:
    from builder.data.arrays import Sample

    rows = SampleSet(tuple(Sample(f"{n}", {"x": torch.ones(1)}) for n in range(8)), True)
    assert rows.plan((1, 2, 3, 8)) == (
        (0,), (1,), (2,), (3,), (0, 1), (2, 3), (3, 2, 1), (0,), (0, 1, 2, 3, 4, 5, 6, 7),
    )  # fmt: skip


def test_with_head_takes_the_arguments_of_any_number() -> None:
    assert with_head(nn.Identity(), ["INPUT__0"], lambda x: (x,))(T) is T


KINDS = st.sampled_from(["float32", "int64", "bool", "uint8"])
SHAPES = st.lists(st.integers(1, 3), max_size=3)


@settings(max_examples=30)
@given(st.lists(st.tuples(KINDS, SHAPES, SHAPES), min_size=1, max_size=3), st.booleans())
def test_a_size_that_differs_is_any_and_the_others_are_kept(
    tmp_path_factory: pytest.TempPathFactory, tensors_of: Any, is_batched: bool
) -> None:
    """Each input is given in two shapes of one rank, and given back as it is."""

    class Both(nn.Module):
        def forward(self, *given: torch.Tensor) -> Any:
            return given

    folder = tmp_path_factory.mktemp("signature")
    ranks = [(kind, one[: len(two)] or [1], two[: len(one)] or [1]) for kind, one, two in tensors_of]
    for number in (1, 2):
        shapes = {f"in{i}": (kinds[0], kinds[number]) for i, kinds in enumerate(ranks)}
        batch = [2] if is_batched else []
        np.savez(
            folder / f"{number}.npz", **{n: np.ones([*batch, *shape], kind) for n, (kind, shape) in shapes.items()}
        )
    expected = [tuple(a if a == b else -1 for a, b in zip(one, two, strict=True)) for _, one, two in ranks]
    declared = ", ".join(
        f"in{i}: {{dtype: {data_type_of(kind)}, shape: {list(shape)}}}"
        for i, ((kind, *_), shape) in enumerate(zip(ranks, expected, strict=True))
    )
    names = ", ".join(f"out{i}" for i in range(len(ranks)))
    text = f"inputs: {{{declared}}}\noutputs: [{names}]\nsamples: [1.npz, 2.npz]\nmax_batch_size: {2 * is_batched}"
    entry = entry_of(folder, text)
    _, reference = studied(entry, Both())
    assert [spec.shape for spec in reference.signature.inputs] == expected
    assert [spec.shape for spec in reference.signature.outputs] == expected
    assert [spec.data_type for spec in reference.signature.outputs] == [data_type_of(kind) for kind, *_ in ranks]

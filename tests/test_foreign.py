"""Code that is not ours: what it raises, prints, sets and imports."""

import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_manifest
from torch import nn

from builder import networks
from builder.build.run import build_repository, resolve
from builder.errors import ExportError, NetworkError, WeightsError
from builder.exporters import onnx, torchscript
from builder.manifest.models import load_manifest
from builder.networks.describe import describe
from builder.networks.outputs import require_scores
from builder.triton.signature import Signature, TensorSpec
from builder.types import ExportRequest, Network, NetworkRequest, Target, WeightsSource
from builder.util.reasons import reason
from builder.util.usercode import call, load_callable, undone
from builder.util.usercode.files import imported_files

SMALL = "preprocess: {channels: 3, resize: 10, crop: 8}, max_batch_size: 2"
INCLUDED = WeightsSource("included", "included")
IMAGES = Signature((TensorSpec("x", "FP32", (3, 8, 8)),), (TensorSpec("y", "FP32", (5,)),))


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/').replace('INIT', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def loaded(name: str, base: Path) -> Any:
    return load_callable(name, base, NetworkError)()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def circular() -> None:
    error = ValueError("cause of itself")
    raise error from error


def answered() -> None:
    try:
        _ = {}["no"]
    except KeyError:
        raise ValueError("there is no variant 'no'") from None


def endless() -> None:
    endless()


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raising(SystemExit(3)), "it ends the program with sys.exit(3)"),
        (raising(SystemExit()), "it ends the program with sys.exit()"),
        (raising(GeneratorExit()), "GeneratorExit"),
        (raising(StopIteration()), "StopIteration"),
        (raising(KeyError("logits")), "KeyError: 'logits'"),
        (raising(ValueError()), "failed: ValueError ("),
        (raising(ValueError("\n\nfirst\nsecond")), "ValueError: first ("),
        (raising(ValueError("x" * 10_000)), "xxx ... ("),
        (raising(ValueError("\udcff")), "ValueError: \\udcff"),
        (raising(MemoryError()), "there is not enough memory"),
        (raising(Mute()), "Mute: its message cannot be made"),
        (circular, "cause of itself"),
        (answered, "there is no variant 'no'"),
        (endless, "maximum recursion depth exceeded"),
        (lambda: compile("a b", "odd.py", "exec"), "(odd.py:1)"),
    ],
)
def test_whatever_it_raises_is_one_line_with_its_place(function: Callable[[], Any], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        call(function, "net.py:make", NetworkError)
    text = str(caught.value)
    assert message in text
    assert len(text) < 1000
    assert "\n" not in text
    assert ".py:" in text.removeprefix("net.py:make")


@contextmanager
def handled(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_pass_and_what_only_looks_like_one_does_not() -> None:
    def ended(*_: object) -> None:
        raise SystemExit(9)

    def own() -> None:
        raise KeyboardInterrupt

    with handled(ended), pytest.raises(SystemExit):
        call(lambda: os.kill(os.getpid(), signal.SIGINT), "f", NetworkError)
    with handled(ended), pytest.raises(NetworkError, match="KeyboardInterrupt"):
        call(own, "f", NetworkError)
    with handled(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        call(own, "f", NetworkError)


def test_what_it_prints_is_no_output_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    def noisy() -> None:
        print("printed")
        os.write(1, b"written\n")
        sys.stdout = None  # type: ignore[assignment]

    call(noisy, "f", NetworkError)
    print("ours")
    out, err = capfd.readouterr()
    assert out == "ours\n"
    assert "printed\n" in err
    assert "written\n" in err


def closes_output() -> None:
    sys.stdout.close()
    print("after that", file=sys.stderr)


@pytest.mark.parametrize("closes", [closes_output, lambda: sys.stderr.close(), lambda: os.close(2)])
def test_outputs_that_it_closes_are_its_own(closes: Callable[[], None], capfd: pytest.CaptureFixture[str]) -> None:
    call(closes, "f", NetworkError)
    print("ours")
    print("ours, too", file=sys.stderr)
    os.write(2, b"by number\n")
    out, err = capfd.readouterr()
    assert out == "ours\n"
    assert "ours, too\n" in err
    assert "by number\n" in err


def test_an_output_that_it_keeps_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    kept = call(lambda: sys.stdout, "f", NetworkError)
    call(lambda: print("logged \udcff", file=kept), "f", NetworkError)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "logged \\udcff\n")


def test_without_standard_error_no_descriptor_is_lost() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        before = len(list(Path("/proc/self/fd").iterdir()))
        call(lambda: None, "f", NetworkError)
        found = len(list(Path("/proc/self/fd").iterdir()))
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert found == before


def test_handlers_and_timers_of_its_own() -> None:
    def late(*_: object) -> None:
        raise TimeoutError("too late")

    def waits() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.sigtimedwait([], 10)

    before, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with undone():
        call(lambda: signal.signal(signal.SIGALRM, late), "f", NetworkError)
        with pytest.raises(NetworkError, match="TimeoutError: too late"):
            call(waits, "f", NetworkError)
        call(lambda: signal.setitimer(signal.ITIMER_REAL, 10_000), "f", NetworkError)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= timer[0]


def test_a_command_line_parsed_at_import_is_not_ours(tmp_path: Path) -> None:
    write(
        tmp_path,
        script="import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--data', required=True)\n"
        "args = parser.parse_args()\n",
        optional="import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--width', default=4)\n"
        "args = parser.parse_args()\ndef make():\n    return args.width\n",
    )
    before = sys.argv
    with pytest.raises(NetworkError, match=r"required: --data.*script.py:4.*__main__"):
        loaded("script.py:make", tmp_path)
    assert loaded("optional.py:make", tmp_path) == 4
    assert sys.argv is before


def test_what_it_sets_is_as_it_was_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    filters = list(warnings.filters)
    with undone():
        warnings.simplefilter("error")
        os.chdir("elsewhere")
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
    assert warnings.filters == filters
    assert Path.cwd() == tmp_path
    assert torch.empty(1).dtype == torch.float32
    assert not torch.empty(1).is_meta
    assert torch.is_grad_enabled()


def test_modules_beside_a_file_are_its_own(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(
            tmp_path / folder,
            blocks=f"import parts.inner\nname = {folder!r} + parts.inner.name\n",
            parts__INIT="",
            parts__inner="name = ' inner'\n",
            absolute="import blocks\ndef make():\n    return blocks.name\n",
            relative="def make():\n    from .blocks import name\n    from ..shared import common\n"
            "    import shared\n    return name + common + shared.common\n",
        )
    write(tmp_path, shared="common = ' shared'\n")
    one, two = (load_callable(f"{folder}/absolute.py:make", tmp_path, NetworkError) for folder in ("one", "two"))
    assert (one(), two(), one()) == ("one inner", "two inner", "one inner")
    assert loaded("one/relative.py:make", tmp_path) == "one inner shared shared"
    assert loaded("one.absolute:make", tmp_path) == "one inner"
    assert "blocks" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, mine="from blocks import name\ndef make():\n    return name\n", blocks="name = 'before'\n")
    with undone():
        assert loaded("mine.py:make", tmp_path) == "before"
    write(tmp_path, blocks="name = 'afterwards'\n")
    with undone():
        assert loaded("mine.py:make", tmp_path) == "afterwards"


PICKLES = """
import pickle
from blocks import Block
class Net(Block):
    pass
def make():
    def use():
        return type(pickle.loads(pickle.dumps(Net()))) is Net and isinstance(Net(), Block)
    return use, Block
"""


def test_the_callables_of_an_entry_share_modules(tmp_path: Path) -> None:
    write(tmp_path, net=PICKLES, blocks="class Block:\n    pass\n", net__pics="import blocks\nmake = blocks.Block\n")
    with undone():
        use, block = loaded("net.py:make", tmp_path)
        assert type(loaded("net/pics.py:make", tmp_path)) is block
        assert loaded("net.py:make", tmp_path)[1] is block
        assert use()


def test_a_file_that_failed_fails_again(tmp_path: Path) -> None:
    write(tmp_path, mine="def make():\n    pass\nimport no_such_package\n")
    with undone():
        for _ in range(2):
            with pytest.raises(NetworkError, match="no_such_package"):
                loaded("mine.py:make", tmp_path)


WRITES = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from own_nets.deep import Deep
import own_nets
with open(sys.argv[1] + "/whole.pickle", "wb") as file:
    pickle.dump((Deep(), own_nets.Net()), file)
"""


def test_pickled_objects_find_a_module_by_its_name(tmp_path: Path) -> None:
    init = (
        "import pickle\nfrom pathlib import Path\nfrom .deep import Deep\nclass Net:\n    pass\n"
        "def make():\n    with open(Path(__file__).parent.parent / 'whole.pickle', 'rb') as file:\n"
        "        deep, net = pickle.load(file)\n    return type(deep) is Deep and type(net) is Net\n"
    )
    write(tmp_path, own_nets__INIT=init, own_nets__deep="class Deep:\n    pass\n")
    subprocess.run([sys.executable, "-c", WRITES, str(tmp_path)], check=True, timeout=60)
    with undone():
        assert loaded("own_nets:make", tmp_path)
        assert loaded("own_nets:make", tmp_path)
        assert "own_nets" in sys.modules
    assert not [name for name in sys.modules if name.startswith("own_nets")]


def test_pickled_objects_find_what_lies_beside_the_file_that_reads_them(tmp_path: Path) -> None:
    reads = (
        "import pickle, blocks\ndef make():\n    block = pickle.loads(b'cblocks\\nBlock\\n.')\n"
        "    return block is blocks.Block and block.name\n"
    )
    for folder in ("one", "two"):
        write(tmp_path / folder, net=reads, blocks=f"class Block:\n    name = {folder!r}\n")
    with undone():
        makes = [load_callable(f"{folder}/net.py:make", tmp_path, NetworkError) for folder in ("one", "two")]
        assert [make() for make in makes * 2] == ["one", "two", "one", "two"]
    assert "blocks" not in sys.modules


def test_a_file_named_like_what_it_wraps(tmp_path: Path) -> None:
    wrapper = "import torch\nfrom torch import nn\ndef make():\n    import torch.nn\n    return nn, torch.nn\n"
    write(tmp_path, nets__torch=wrapper, package__torch__INIT=wrapper, package__torch__own="")
    write(tmp_path, package__named="from torch import own\nfrom torch import make\n")
    assert loaded("nets/torch.py:make", tmp_path) == (nn, nn)
    assert loaded("package/torch/__init__.py:make", tmp_path) == (nn, nn)
    assert loaded("package/named.py:make", tmp_path) == (nn, nn)
    assert imported_files(tmp_path / "nets/torch.py", tmp_path) == [tmp_path / "nets/torch.py"]


def test_folders_above_come_after_what_is_installed_and_packages_are_whole(tmp_path: Path) -> None:
    uses = "from torch import nn\nimport shared\ndef make():\n    return nn, shared.name\n"
    write(tmp_path, torch__INIT="", shared="name = 'shared'\n", nets__uses=uses)
    assert loaded("nets/uses.py:make", tmp_path) == (nn, "shared")
    write(tmp_path, copy__torch__INIT="", copy__torch__parts="name = 'own'\n", copy__torch__sub__INIT="")
    write(tmp_path, copy__torch__sub__uses="import torch.parts\ndef make():\n    return torch.parts.name\n")
    assert loaded("copy/torch/sub/uses.py:make", tmp_path) == "own"


def test_init_of_the_files_folder_runs_when_something_of_it_is_asked_for(tmp_path: Path) -> None:
    init = "from .blocks import name as known\nimport no_such_package\n"
    write(tmp_path / "nets", INIT=init, blocks="name = 'b'\n")
    write(
        tmp_path / "nets",
        beside="from .blocks import name\ndef make():\n    return name\n",
        asks="from . import known\n",
    )
    assert loaded("nets/beside.py:make", tmp_path) == "b"
    with pytest.raises(NetworkError, match=r"no_such_package.*__init__.py:2"):
        loaded("nets/asks.py:make", tmp_path)


def test_installed_modules_and_pythons_own_are_not_taken_for_folders(tmp_path: Path) -> None:
    write(tmp_path, json="", torch__data="", mine="import json, torch\ndef make():\n    return json.dumps, torch.nn\n")
    assert loaded("mine.py:make", tmp_path)[1] is nn


def test_files_that_a_file_imports(tmp_path: Path) -> None:
    write(
        tmp_path / "nets",
        mine="import torch\nfrom .blocks import block\ndef make():\n    import parts.inner\n",
        blocks="from shared import common\n",
        parts__INIT="",
        parts__inner="import mine\n",
        unused="",
    )
    write(tmp_path, shared="(")
    found = imported_files(tmp_path / "nets/mine.py", tmp_path)
    names = [file.relative_to(tmp_path).as_posix() for file in found]
    assert names == ["nets/blocks.py", "nets/mine.py", "nets/parts/__init__.py", "nets/parts/inner.py", "shared.py"]
    outside = tmp_path / "manifests"
    assert len(imported_files(outside / "../nets/mine.py", outside)) == 4  # nothing above that package


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Check 'false' failed at src/a.cpp:1:\nFrontEnd API failed\nModel wasn't fully converted.\nSummary:\n"
            "-- No conversion rule found for operations: aten::affine_grid_generator\n",
            "aten::affine_grid_generator",
        ),
        ("Exception from src/a.cpp:224:\nException from src/b.cpp:1:\n[CPU] it is odd\n", "[CPU] it is odd"),
        (
            "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent "
            "call last):\n  File 'x', line 9, in forward\n    x = 1\n    ~~~ <--- HERE\nRuntimeError: it is odd\n",
            "RuntimeError: it is odd",
        ),
        (
            "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent "
            "call last):\nRuntimeError: shape '[2, 5]' is invalid for input of size 5\n",
            "number of the batch size",
        ),
        (
            "Constraints violated (batch)!\n  - You marked batch as dynamic but your code specialized it to be a "
            "constant (2). If you're using mark_dynamic\n",
            "constant (2): forward() makes a number of the batch size",
        ),
        (
            "The following inconsistencies were found:\nEq(s40, 1) is inconsistent!\n",
            "Eq(s40, 1) is inconsistent: forward() makes a number of the batch size",
        ),
        ("\x1b[96mfirst\x1b[0m\nsecond", "first"),
    ],
)
def test_of_other_peoples_errors_the_line_that_says_why(text: str, expected: str) -> None:
    assert expected in reason(RuntimeError(text))
    assert "interpreter" not in reason(RuntimeError(text))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"logits": torch.rand(1, 5), "hidden": ()}, r"a dict of 'logits': \[1, 5\], 'hidden': tuple.*\['logits'\]"),
        ((torch.rand(1, 5), None), r"a tuple of \[1, 5\], NoneType.*\[0\]"),
        ([], "an empty list"),
        (None, "gives NoneType"),
        (torch.rand(5), r"gives \[5\] for one image; a squeeze"),
        (torch.rand(2, 5), r"gives \[2, 5\] for a batch of 1, where \[1, classes\]"),
    ],
)
def test_outputs_that_are_no_scores(output: Any, message: str) -> None:
    require_scores(torch.rand(1, 5), 1, "m", ExportError)
    with pytest.raises(ExportError, match=rf"scores \[B, classes\]; .*{message}"):
        require_scores(output, 1, "m", ExportError)


NETS = """
import sys
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 5)
    def forward(self, x):
        return self.head(x.mean((2, 3)))

class Scaled(Small):
    def __init__(self):
        super().__init__()
        scale = torch.full((5,), 2.0)
        self.scaled = lambda scores: scores * scale
    def forward(self, x):
        return self.scaled(super().forward(x))

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.LazyLinear(5)
    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))

class Exits(Small):
    def forward(self, x):
        sys.exit("that is all")

class Chosen(Small):
    def forward(self, x):
        scores = super().forward(x)
        return scores[torch.nonzero(scores.sum(1).isfinite()).squeeze(1)]

def scripted(path):
    return torch.jit.load(path)

def program(path):
    return torch.export.load(path).module()
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    return write(tmp_path, net=NETS)


MOVES = """
import os
from net import Small
os.chdir("elsewhere")
class Moves(Small):
    pass
"""


def test_a_working_folder_that_it_leaves_is_not_the_repositorys(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets)
    write(nets, moves=MOVES)
    Path("elsewhere").mkdir()
    text = f"models: {{m: {{network: 'moves.py:Moves', weights: random, {SMALL}}}}}"
    outcome = build_repository(resolve(load_manifest(write_manifest(nets, text))), Path("repository"))
    assert [model.name for model in outcome.built] == ["m"]
    assert (nets / "repository/m").is_dir()
    assert not list(Path("elsewhere").iterdir())


def made(name: str, source: WeightsSource, base: Path, **arguments: Any) -> Network:
    return networks.find(name).make(NetworkRequest(name, source, arguments, base))


def from_file(path: Path) -> WeightsSource:
    return WeightsSource("file", str(path), path)


def test_tensors_beside_the_parameters_are_there_wherever_they_are_kept(nets: Path) -> None:
    original = made("net.py:Scaled", INCLUDED, nets).module
    torch.save(original.state_dict(), nets / "w.pt")
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(made("net.py:Scaled", from_file(nets / "w.pt"), nets).module(image), original(image))
    assert describe(f"{nets}/net.py:Scaled", (3, 8, 8)).parameters == 20


def test_lazy_modules_are_made_by_one_image(nets: Path) -> None:
    lazy = made("net.py:Lazy", INCLUDED, nets).module
    lazy(torch.rand(2, 3, 8, 8))
    torch.save(lazy.state_dict(), nets / "w.pt")
    entries = {"r": "random", "i": "included", "f": "w.pt"}
    text = "".join(f"  {k}: {{network: 'net.py:Lazy', weights: {w}, {SMALL}}}\n" for k, w in entries.items())
    outcome = build_repository(resolve(load_manifest(write_manifest(nets, f"models:\n{text}"))), nets / "repository")
    assert [model.name for model in outcome.built] == list(entries)
    assert describe(f"{nets}/net.py:Lazy", (3, 8, 8)).parameters == sum(p.numel() for p in lazy.parameters())


def archives(folder: Path) -> tuple[Path, Path]:
    small, image = load_callable("net.py:Small", folder, NetworkError)(), torch.rand(2, 3, 8, 8)
    torch.jit.trace(small.eval(), image).save(folder / "scripted.pt")  # type: ignore[no-untyped-call]
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(small, (image,), dynamic_shapes=({0: batch},)), folder / "program.pt2")
    (folder / "program.pt2").rename(folder / "program.pt")
    return folder / "scripted.pt", folder / "program.pt"


@pytest.mark.filterwarnings("ignore")
def test_networks_that_are_files(nets: Path) -> None:
    scripted, program = archives(nets)
    for path, loader in ((scripted, "torch.jit.load"), (program, "torch.export.load")):
        with pytest.raises(WeightsError, match=rf"not a state dict.*{loader}"):
            made("net.py:Small", from_file(path), nets)
    image = torch.rand(1, 3, 8, 8)
    one = made("net.py:scripted", INCLUDED, nets, path=str(scripted)).module
    other = made("net.py:program", INCLUDED, nets, path=str(program)).module
    assert torch.allclose(one(image), other(image))
    assert torchscript.trace(one, (image,))(image).shape == (1, 5)
    with pytest.raises(ExportError, match="`format: torchscript`"):
        onnx.export(ExportRequest(nn.Sequential(one), IMAGES, {"x": image}, nets / "model.onnx", Target()))


def test_what_a_mask_chooses_is_no_branch_on_content(nets: Path) -> None:
    network = made("net.py:Chosen", INCLUDED, nets).module
    traced = torchscript.trace(network, (torch.rand(2, 3, 8, 8),))
    for size in (1, 3):
        images = torch.rand(size, 3, 8, 8)
        assert torch.allclose(traced(images), network(images))


def test_a_network_that_ends_the_program_leaves_the_others(nets: Path) -> None:
    text = "".join(f"  {name}: {{network: 'net.py:{name}', weights: random, {SMALL}}}\n" for name in ("Exits", "Small"))
    outcome = build_repository(resolve(load_manifest(write_manifest(nets, f"models:\n{text}"))), nets / "repository")
    assert [model.name for model in outcome.built] == ["Small"]
    (failure,) = outcome.failed
    assert isinstance(failure.error, ExportError)
    assert "sys.exit('that is all') (" in str(failure.error)


@pytest.mark.parametrize("large", [0, torchscript.LARGE_BYTES])
def test_a_full_disk_ends_an_export_and_not_the_process(
    large: int, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchscript, "LARGE_BYTES", large)
    rows = Signature((TensorSpec("x", "FP32", (64,)),), (TensorSpec("y", "FP32", (64,)),))
    request = ExportRequest(nn.Linear(64, 64).eval(), rows, {"x": torch.rand(2, 64)}, nets / "model.pt", Target())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            torchscript.export(request)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

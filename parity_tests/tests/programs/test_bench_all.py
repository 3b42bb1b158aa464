"""`toonport bench all`, `profile`, `curves` and `page`: every case runs once, and figures say what was measured."""

import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from convert.errors import InputError
from convert.formats import open_checkpoint
from toonport.bench import curves, suite, usual, work
from toonport.bench.curves import CURVES, exponent, grow
from toonport.bench.page import write_page
from toonport.bench.processes import Contender, Launched, Memory, Resident, Runs, alone, compete
from toonport.bench.profile import Line, as_data, cut, kind_of, put_together, rows
from toonport.bench.suite import CASES, DRAWN, Bench, Case, Goal, judged, largest_tensor, run_all, write_random
from toonport.bench.traces import Kernel, Trace, trace
from toonport.cli import main


class Here(Contender):
    """A contender in this process: the frameworks are loaded already."""

    def __init__(self, what, arguments=None):
        super().__init__()
        self.what, self.arguments = what, arguments

    def open(self):
        if self.arguments is not None:
            self.work = getattr(work, self.what)(**self.arguments).run

    def run(self):
        started = time.perf_counter()
        self.work()
        return time.perf_counter() - started, 0.0


class Program(Here):
    """A program called as a function."""

    number = 0

    def run(self):
        Program.number += 1
        words = [word.replace("{run}", f"run{Program.number}") for word in self.what[2:]]
        name, *rest = words
        self.work = lambda: main(rest) if name == "toonport" else usual.WAYS[rest[0]](*rest[1:])
        return super().run()


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Contenders in this process, of small networks."""
    monkeypatch.chdir(tmp_path)
    for number in range(1, 40):
        (tmp_path / f"run{number}").mkdir()
    Program.number = 0
    monkeypatch.setattr(work, "only_pytorch", lambda: None)
    for module in (suite, curves):
        monkeypatch.setattr(module, "Resident", Here)
        monkeypatch.setattr(module, "Launched", Program)
        monkeypatch.setattr(module, "DRAWN", "cyclegan")
        monkeypatch.setattr(module, "PART", "G_A")


GROUPS = [[case] for case in CASES if case.name not in ("onnx", "opening", "compare")]
GROUPS += [suite.chosen(["onnx", "opening"])]  # which share an export


@pytest.mark.parametrize("cases", GROUPS, ids=lambda cases: cases[0].name)
def test_every_case_runs_at_its_smallest_size(cases, here):
    for case, outcome in zip(cases, run_all(cases, smallest=True), strict=True):
        assert [figure.title for figure in outcome.figures] == [goal.title for goal in case.goals]
        assert all(one["seconds"] > 0 for one in outcome.contenders.values())
        json.dumps(outcome.contenders)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_every_curve_runs_at_its_smallest_size(curve, here):
    (grown,) = grow([curve], smallest=True)
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in grown.seconds.values())


def test_contenders_run_in_processes_of_their_own_and_are_looked_at():
    held = 200 * 2**20
    code = f"import sys, time; block = b'x' * {held}; time.sleep(0.3)"
    found = compete(
        {
            "stays": Resident("network", {"framework": "torch", "family": "cyclegan", "part": "D_A", "side": 64}),
            "anew": Launched([sys.executable, "-c", code]),
        },
        2,
    )
    assert [len(runs.wall) for runs in found.values()] == [2, 2]
    assert found["stays"].first > 0
    assert found["anew"].wall[0] > 0.3
    assert held < found["anew"].memory.anonymous <= found["anew"].memory.resident < 2 * held


def test_what_a_contender_says_last_is_the_error():
    with pytest.raises(InputError, match="no such way"):
        Launched([sys.executable, "-c", "raise SystemExit('no such way')"]).run()
    with pytest.raises(InputError, match="unknown family 'sketch'"):
        compete({"stays": Resident("network", {"framework": "torch", "family": "sketch", "part": "G"})}, 1)


def test_figures_are_the_medians_of_what_was_measured():
    mib = 2**20
    runs = {
        "ours": Runs((1.0, 2.0, 4.0), (1.0, 1.0, 1.0), 7.0, Memory(900 * mib, 300 * mib)),
        "theirs": Runs((2.0, 8.0, 12.0), (1.0, 1.0, 1.0), 0.0, Memory(100 * mib, 100 * mib)),
    }
    goals = (
        Goal("ratio", "theirs", "ours", least=3), Goal("seconds", "ours", most=1.9), Goal("first", "ours", most=7),
        Goal("resident", "ours", most=899), Goal("anonymous", "ours", most=300),
        Goal("excess", "ours", "theirs", most=1000),
    )  # fmt: skip
    outcome = judged(Case("x", "x", lambda _: {}, goals), runs, Bench(Path()))
    assert [figure.value for figure in outcome.figures] == [3.0, 2.0, 7.0, 900.0, 300.0, 800 * mib]
    assert [figure.met for figure in outcome.figures] == [True, False, True, False, True, False]
    assert (outcome.figures[0].low, outcome.figures[0].high) == (2.5, 3.5)
    assert outcome.figures[0].title == "theirs / ours"
    assert [figure.cpu for figure in outcome.figures[:2]] == [1.0, None]


def test_memory_is_told_in_largest_tensors_of_the_file(tmp_path):
    write_random(tmp_path / "x.pt", DRAWN, 4)
    sizes = [math.prod(spec.shape) for spec in open_checkpoint(tmp_path / "x.pt").specs.values()]
    assert largest_tensor(4) == 4 * max(sizes)


def test_an_exponent_is_that_of_the_power_that_fits():
    assert exponent([1, 2, 4], [3, 24, 192]) == pytest.approx(3)
    assert exponent([5], [1]) is None


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("Conv2DBackpropFilter", "convolution"), ("aten::mkldnn_convolution", "convolution"),
        ("ResizeNearestNeighborV2Grad", "up-sampling"), ("aten::upsample_nearest2d", "up-sampling"),
        ("MirrorPad", "padding"), ("aten::reflection_pad2d_backward", "padding"),
        ("LayerNormGrad", "norm"), ("aten::native_batch_norm", "norm"),
        ("LeakyReLUGrad", "activation"), ("aten::leaky_relu_", "activation"),
        ("BatchMatMul", "matmul"), ("aten::addmm", "matmul"), ("ReduceMean", "reduction"), ("aten::var", "reduction"),
        ("Transpose", "copy"), ("aten::clone", "copy"), ("Mul", "arithmetic"), ("aten::rsqrt", "arithmetic"),
        ("MulBackward0", "dispatch"),
    ],
)  # fmt: skip
def test_kernels_of_either_framework_are_of_one_kind(operator, kind):
    assert kind_of(operator) == kind


def _traced(framework, tmp_path):
    kwargs = {"ngf": 4, "n_blocks": 1}
    arguments = {"framework": framework, "family": "cyclegan", "part": "G_A", "side": 32, "kwargs": kwargs}
    run = alone if framework == "graph" else lambda work, *args: work(*args)  # MindSpore's profiler starts once
    return run(trace, "network", arguments, 2, tmp_path / framework)


def test_traces_name_the_same_layers_in_every_mode(monkeypatch, tmp_path):
    monkeypatch.setattr(work, "only_pytorch", lambda: None)
    found = {framework: _traced(framework, tmp_path) for framework in ("torch", "mindspore", "graph")}
    layers = {
        framework: {kernel.layer for kernel in one.kernels if kind_of(kernel.operator) == "convolution"}
        for framework, one in found.items()
    }
    assert layers["torch"] == layers["mindspore"] == layers["graph"]
    assert len(layers["torch"]) == 8
    for one in found.values():
        first = [kernel for kernel in one.kernels if kernel.layer == "G_A.model.1" and kernel.read > 4 * 3 * 38 * 38]
        assert len(first) == 1, [kernel.operator for kernel in one.kernels if kernel.layer == "G_A.model.1"]
        assert first[0].read == pytest.approx(4 * (3 * 38 * 38 + 4 * 3 * 7 * 7), abs=16)
        assert all(0 <= kernel.best <= kernel.seconds for kernel in one.kernels)
        assert not any(kernel.backward for kernel in one.kernels)
    assert sum(found["torch"].flops.values()) > 2 * 32 * 32 * 4 * 3 * 49


def test_a_trace_of_a_training_step_tells_backward_from_forward_and_whose_layer(monkeypatch, tmp_path):
    monkeypatch.setattr(work, "only_pytorch", lambda: None)
    sizes = {"family": "cyclegan", "size": 32, "batch": 1, "width": 4, "network": {"n_blocks": 1}}
    one = trace("step", {"framework": "torch", **sizes}, 2, tmp_path)
    backward = {k.layer for k in one.kernels if k.backward and k.operator == "aten::convolution_backward"}
    assert {layer.split(".")[0] for layer in backward} == {"G_A", "G_B", "D_A", "D_B"}
    assert backward <= {k.layer for k in one.kernels if not k.backward and kind_of(k.operator) == "convolution"}
    assert any("convolution_backward" in operator for operator in one.flops)


PROFILE = put_together(
    "cyclegan", True, "size 32",
    {
        "MindSpore": Trace(0.5, 9.0, 2**30, (Kernel("Conv2D", "G.a.b", False, 0.2, 0.1, 2**20),
                                             Kernel("Conv2DBackpropInput", "G.a.b", True, 0.1, 0.1, 2**21),
                                             Kernel("Mul", "G.a.c", False, 0.05, 0.05, 0))),
        "PyTorch": Trace(0.2, 0.3, 2**29, (Kernel("aten::mkldnn_convolution", "G.a.b", False, 0.1, 0.1, 2**20),),
                         {"aten.convolution": 4 * 10**9, "aten.convolution_backward": 8 * 10**9, "aten.mm": 7}),
    }, 4e10)  # fmt: skip


def test_a_profile_puts_both_frameworks_beside_the_limit():
    forward, back, rest = PROFILE.kinds
    assert (forward.name, forward.milliseconds, forward.limit) == (
        "convolution",
        {"MindSpore": 200, "PyTorch": 100},
        100,
    )
    assert (back.name, back.backward, back.milliseconds, back.limit) == ("convolution", True, {"MindSpore": 100}, 200)
    assert (rest.name, rest.limit) == ("arithmetic", None)
    assert PROFILE.totals["MindSpore"]["kernels"] == pytest.approx(0.35)
    assert PROFILE.totals["MindSpore"]["best"] == pytest.approx(0.25)
    (layer,) = cut(PROFILE.layers, 2)
    assert (layer.name, layer.milliseconds["MindSpore"]) == ("G.a", pytest.approx(350))
    headings, cells = rows([forward], ["MindSpore", "PyTorch"])
    assert headings == ["", "MindSpore ms", "PyTorch ms", "ratio", "limit ms", "MiB read"]
    assert cells == [["convolution", "200.0", "100.0", "2.00", "100.0", "1/1"]]
    assert rows([Line("x", True, {"MindSpore": 1.0}, {}, None)], ["MindSpore", "PyTorch"])[1][0][3] == "-"


def test_the_page_shows_figures_goals_and_what_was_not_run(tmp_path, capsys):
    around = {"machine": {"cores": 2, "memory": "8 GiB", "processor": "x", "load": 0.1}, "versions": {"torch": "2"},
              "date": "2026-01-02"}  # fmt: skip
    case = next(case for case in CASES if case.name == "small")
    runs = {
        name: Runs((0.5, 0.7), (0.1, 0.1), 0.0, Memory(2**28, 2**27)) for name in ("inspect", "convert", "cp + sha256")
    }
    curve = {"name": "size", "title": "drawing", "unit": "pixels", "sizes": [64.0, 128.0],
             "seconds": {"PyTorch": [1.0, 4.0]}, "exponents": {"PyTorch": 2.0}}  # fmt: skip
    parts = {
        "all": {"kind": "all", "outcomes": [asdict(judged(case, runs, Bench(tmp_path)))]},
        "curves": {"kind": "curves", "curves": [curve]},
        "profile": {"kind": "profile", "profile": as_data(PROFILE)},
    }
    for name, data in parts.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**data, **around}))
    names = [str(tmp_path / f"{name}.json") for name in parts]
    assert main(["bench", "page", *names, "--out", str(tmp_path / "docs")]) == 0
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "| a small file | inspect, s | 0.60 (0.55–0.65) | ≤ 1.2 | met |" in text
    assert "inspect, peak MiB | 256.00 | ≤ 200 | missed" in text
    assert "cp + sha256 (limit) 0.6" in text
    assert "machine busy" not in text
    assert "Not run: .pt → .ckpt, big file;" in text
    assert "the curve of photos." in text
    assert "the curve of size" not in text
    assert "| drawing | pixels | PyTorch | 64: 1, 128: 4 | 2.00 |" in text
    assert "| convolution, backward | 100.0 | 0.0 | - | 200.0 | 2/0 |" in text
    for picture in ("bench_curves.svg", "bench_profile_cyclegan_train.svg"):
        assert f"({picture})" in text
        drawn = (tmp_path / "docs" / picture).read_text()
        assert "http" not in drawn.replace("http://www.w3.org", "").replace("http://purl.org", "")
    busy = {**parts["all"], **around, "machine": {**around["machine"], "load": 2.1}}
    (tmp_path / "all.json").write_text(json.dumps(busy))
    before = (tmp_path / "docs" / "bench_curves.svg").read_bytes()
    write_page([Path(name) for name in names], tmp_path / "docs")
    assert (tmp_path / "docs" / "bench_curves.svg").read_bytes() == before
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "inspect, s | 0.60 (0.55–0.65) | ≤ 1.2 | machine busy |" in text
    assert "inspect, peak MiB | 256.00 | ≤ 200 | missed" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["all", "photo2cartoon"], "takes no names"),
        (["all", "--case", "inferense"], "did you mean 'inference'"),
        (["curves", "--case", "x"], "unknown curve 'x'"),
        (["--case", "x"], "unknown case 'x'"),
        (["profile"], "name one family"),
        (["profile", "sketch"], "unknown family 'sketch'"),
        (["page"], "name the JSON files"),
        (["page", "config.json"], "not what bench all"),
    ],
)
def test_mistakes_are_told_in_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err

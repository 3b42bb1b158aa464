"""Mutants by rule: enumerated alike every time, drawn by seed, and each verdict means what it says."""

import importlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from convert.registry import families, family_named
from parity_tests.harness.families import PLAIN, other_forms
from parity_tests.harness.judge import judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.mutants.systematic import checks, elsewhere, equivalence, files, judging
from parity_tests.harness.mutants.systematic.graph import array_mutations, graph_mutants
from parity_tests.harness.mutants.systematic.planting import ROOT, imported_anew, planted, traced
from parity_tests.harness.mutants.systematic.run import Plan, sampled, search
from parity_tests.harness.mutants.systematic.scope import Program, read_program
from parity_tests.harness.mutants.systematic.source import source_mutants
from parity_tests.harness.mutants.systematic.statistics import wilson
from parity_tests.harness.mutants.systematic.table import END, START, counted, kept, markdown, replaced
from toonport.cli import main

SOURCE = '''"""A docstring with 1 number."""
from os import path
LIMIT = 3


def f(x: int, *, flag: bool = True) -> int:
    """Another, with 2."""
    if x < LIMIT and flag:
        raise ValueError(f"{x} is less than 3")
    x += 1
    return g(x.mean(), -x, mode="same") * (x / 2)[1, 0]
'''
KINDS = {
    "number",
    "operator",
    "operand alone",
    "comparison",
    "boolean",
    "condition",
    "argument order",
    "keyword left out",
    "call removed",
    "sibling function",
    "element order",
    "string",
    "statement deleted",
}
LOSSES, LAYERS, KERNELS = "ms_models/losses.py", "ms_models/layers.py", "ms_models/kernels.py"


@pytest.mark.quick
def test_mutants_of_a_file_are_the_same_every_time_and_of_every_kind():
    found = list(source_mutants("f.py", SOURCE))
    assert found == list(source_mutants("f.py", SOURCE))
    assert {mutant.kind for mutant in found} >= KINDS - {"element order"}
    assert len({mutant.name for mutant in found}) == len(found)
    for mutant in found:
        compile(mutant.planted(SOURCE), "f.py", "exec")


@pytest.mark.quick
def test_documentation_types_and_error_messages_are_not_mutated():
    lines = {mutant.line for mutant in source_mutants("f.py", SOURCE)}
    assert lines == {3, 6, 8, 10, 11}


@pytest.mark.quick
def test_elements_and_statements_are_exchanged_and_deleted_in_the_text():
    changes = {mutant.kind: mutant.planted("a, b = b, a\n") for mutant in source_mutants("f.py", "a, b = b, a\n")}
    assert changes == {"statement deleted": "pass\n", "element order": "a, b = a, b\n"}


@pytest.mark.quick
def test_a_family_is_made_of_what_its_networks_and_its_step_mention():
    program = read_program(ROOT)
    vgg, ugatit = (program.of_family(family_named(name)) for name in ("vgg19", "ugatit"))
    assert ("ms_models/vgg.py", "VGG19") in vgg - ugatit
    assert {("ms_models/layers.py", "LIN"), ("ms_models/optim.py", "Adam")} <= ugatit - vgg
    assert ("ms_models/kernels.py", "channel_affine") in program.reached(
        [("ms_models/layers.py", "LIN")], into_classes=False
    )


@pytest.mark.quick
def test_a_sample_depends_on_its_seed_alone():
    program = Program(
        {LOSSES: read_program(ROOT).sources[LOSSES], "ms_models/vgg.py": "class VGG19:\n    size = 1, 2, 3\n"}
    )
    plans = [Plan([family_named("vgg19")], 3, 0, 0, seed) for seed in (0, 0, 1)]
    first, again, other = ([mutant.name for mutant in sampled(plan, program)["vgg19"]] for plan in plans)
    assert first == again != other
    assert len(first) == 3


@pytest.mark.quick
def test_a_planted_file_is_found_by_whoever_imports_it_and_no_longer_afterwards():
    source = read_program(ROOT).sources[LOSSES]
    package, losses = (importlib.import_module(name) for name in ("ms_models", "ms_models.losses"))
    with planted(LOSSES, source + "\nPLANTED = True\n"):
        assert importlib.import_module("ms_models.losses").PLANTED
    assert not hasattr(importlib.import_module("ms_models.losses"), "PLANTED")
    assert package.losses is losses  # what `from ms_models import losses` finds


@pytest.mark.quick
def test_every_mutation_of_weights_changes_them_and_no_shape():
    value = np.arange(1, 10, dtype=np.float32).reshape(3, 3) / 7
    found = dict(array_mutations(value, 0))
    kinds = {"sign", "scaled", "one element", "permuted", "transposed", "rounded to float16"}
    assert found.keys() == kinds
    assert all(changed.shape == value.shape and (changed != value).any() for changed in found.values())


@pytest.mark.quick
def test_the_interval_is_wilson_s():
    low, high = wilson(49, 50)
    assert (round(low, 3), round(high, 3)) == (0.895, 0.996)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.quick
def test_the_table_is_put_in_the_place_of_the_one_before():
    result = judging.Result("ms_models/a.py:1:0 number 0", "dtn", "number", "1 → 2", "missed", reason="r", line="a = 1")
    part = list(markdown([result], ["toonport mutants --systematic"], {"mindspore": "1", "torch": "2"}))
    page = replaced(f"# Planted\n\n{START}\nold\n{END}\n", part)
    assert "old" not in page
    assert page.startswith("# Planted\n")
    assert "| dtn | ms_models/a.py:1:0 number 0 | 1 → 2 | a = 1 | r |" in page
    assert kept(page).strip() == "\n".join(part)
    assert counted([result]).rate.startswith("0.0 % (0 of 1;")


@pytest.mark.quick
def test_runs_of_several_families_or_machines_make_one_table(tmp_path, capsys):
    pytest.importorskip("libcst")
    result = judging.Result("ms_models/a.py:1:0 number 0", "dtn", "number", "1 → 2", "caught", right=True)
    files = []
    missed = replace(result, name="ms_models/a.py:2:0 number 0", verdict="missed", right=False)
    for place, own in enumerate((result, missed)):
        files.append(tmp_path / f"{place}.json")
        written = {"commands": [f"command {place}"], "mutants": [asdict(own)]}
        files[-1].write_text(json.dumps(written))
    page, together = tmp_path / "page.md", tmp_path / "together.json"
    named = [str(path) for path in files]
    options = ["mutants", "--systematic", "--markdown", str(page), "--json", str(together), "--with"]
    assert main([*options, *named, *named]) == 1  # what is given twice counts once
    assert "source: 2 mutants; caught 50.0 %" in capsys.readouterr().out
    assert "command 0\ncommand 1\n" in page.read_text()
    assert json.loads(together.read_text())["mutants"] == [asdict(result), asdict(missed)]
    strange = [{}, [], {"commands": [], "mutants": [{**asdict(result), "verdict": 5}]}]
    for content in strange:
        files[1].write_text(json.dumps(content))
        assert main([*options, *named]) == 2
        assert str(files[1]) in capsys.readouterr().err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The small U-GAT-IT discriminator, its layers alone, ready to judge mutants in this process."""
    family = family_named("cyclegan")
    part = next(part for part in family.parts if part.name == "D_A")
    check = checks.Check("cyclegan", "D_A", {**part.kwargs, "ndf": 4, "n_layers": 2})
    captures = tmp_path_factory.mktemp("captures")
    clean = checks.Clean()
    with imported_anew(), traced(clean.lines):
        verdicts = checks.run_check(check, captures, {}, types=clean.types)
    assert all(verdict.equal for verdict in verdicts)
    assert clean.types["model.3"] == "InstanceNorm2d"
    return judging.Prepared(family, read_program(ROOT), captures, {check: clean})


def mutant_of(prepared, before, after, file=LAYERS):
    """The mutant of a file that the fixture's check runs."""
    found = source_mutants(file, prepared.program.sources[file])
    fitting = (each for each in found if (each.before, each.change[2]) == (before, after))
    return next(each for each in fitting if prepared.covering(each))


def test_a_planted_bug_is_caught_and_blamed_on_its_layer(prepared):
    mutant = mutant_of(prepared, "instance_norm(x, self.eps, self.gamma, self.beta)", "x")
    result = judging.result_of(prepared, mutant, judging.first_difference(prepared, mutant))
    assert (result.verdict, result.mode, result.right) == ("caught", "isolated", True), result
    assert "InstanceNorm2d" in result.blamed


@pytest.mark.quick
def test_what_looks_at_blocks_is_asked_before_what_looks_at_layers_only():
    program = read_program(ROOT)
    mutant = next(iter(source_mutants(LAYERS, program.sources[LAYERS])))
    ran = checks.Clean(lines={LAYERS: {mutant.line: set()}})
    of_part = [checks.Check("ugatit", "disGA", {}, form=form) for form in (PLAIN, "", "narrow")]
    own = {check: replace(ran, seconds=place) for place, check in enumerate([*of_part, checks.Check("ugatit", "", {})])}
    prepared = judging.Prepared(family_named("ugatit"), program, ROOT, own)
    assert [check.form or check.part for check in prepared.covering(mutant)] == ["disGA", "narrow", PLAIN, ""]


def test_formulas_of_other_devices_are_compared_on_the_cpu(tmp_path):
    family, clean = family_named("ugatit"), checks.Clean()
    check = next(check for check in checks.checks_of(family) if (check.part, check.form) == ("genA2B", PLAIN))
    with imported_anew(), traced(clean.lines):
        verdicts = checks.run_check(check, tmp_path, {}, types=clean.types)
    assert all(verdict.equal for verdict in verdicts)
    own = judging.Prepared(family, read_program(ROOT), tmp_path, {check: clean})
    mutant = mutant_of(own, "centred * centred", "centred", KERNELS)
    found = judging.first_difference(own, mutant)
    assert found.check == check
    assert judging.is_right(own, mutant, found)
    assert search(own, mutant)[1].startswith("no check saw it, though it changes")


def test_a_mutant_that_does_not_run_is_refused(prepared):
    mutant = mutant_of(prepared, "ops.ones(x.shape[2:], x.dtype)", "ops.ones(x.dtype, x.shape[2:])", KERNELS)
    result = judging.result_of(prepared, mutant, judging.first_difference(prepared, mutant))
    assert result.verdict == "refused"


def test_a_mutant_that_computes_the_same_is_called_equivalent_and_another_is_not(prepared):
    mutant = mutant_of(prepared, "instance_norm(x, self.eps, self.gamma, self.beta)", "x")
    same = replace(mutant, change=(*mutant.change[:2], "instance_norm(x, self.eps + 0)"))
    assert judging.first_difference(prepared, same) is None
    assert search(prepared, same)[0] == "equivalent"
    assert search(prepared, mutant)[0] == "missed"


def test_lines_that_no_check_runs_are_missed(prepared):
    program = prepared.program
    mutant = next(each for each in source_mutants(LAYERS, program.sources[LAYERS]) if each.owner == "LIN")
    result = judging.result_of(prepared, mutant, None)
    assert (result.verdict, result.reason) == ("missed", "not reached by the comparison")


@pytest.mark.parametrize("family", [family for family in families() if family.training], ids=lambda family: family.name)
def test_training_is_searched_in_a_process_that_has_run_nothing(family):
    names = [name for name, _ in equivalence._pieces(list(checks.checks_of(family)), family, "float32")]
    assert [name.endswith("training") for name in names] == sorted(name.endswith("training") for name in names)[::-1]
    assert len(names) == len(set(names))


def test_norms_of_narrow_generators_take_both_ways(monkeypatch):
    sizes = []
    with imported_anew(), checks.narrow_maps():
        import mindspore as ms

        from ms_models import kernels

        large = kernels._instance_norm
        monkeypatch.setattr(kernels, "_instance_norm", lambda x, *others: sizes.append(x.shape) or large(x, *others))
        for shape in ((2, 4, 16, 20), (2, 16, 4, 5)):  # of U-GAT-IT's first and last norm
            kernels.instance_norm(ms.Tensor(np.ones(shape, np.float32)), 1e-5)
    assert sizes == [(2, 4, 16, 20)]


def test_blame_knows_a_familys_network_from_another_familys_of_the_same_name():
    program, family = read_program(ROOT), family_named("whitebox")
    file = "ms_models/whitebox.py"
    check = next(check for check in checks.checks_of(family) if check.part == "generator")
    types = {"": "UnetGenerator", "FirstConv": "Sequential", "FirstConv.0": "Conv2d"}
    prepared = judging.Prepared(family, program, ROOT, {check: checks.Clean(types=types)})
    mutant = next(each for each in source_mutants(file, program.sources[file]) if each.function == "activated")
    blamed = Measurement(Mode.ISOLATED, Probe(), "FirstConv.0", "Conv2d", Quantity(Kind.OUTPUT), 0, error=1.0)
    assert judging.is_right(prepared, mutant, judging.Difference(check, judge(blamed)))


@pytest.mark.parametrize(("function", "right"), [("_up", True), ("_unit", False)])
def test_what_a_builder_wraps_belongs_to_the_network_that_calls_it(function, right):
    program, family, file = read_program(ROOT), family_named("dtn"), "ms_models/sagan_cyclegan.py"
    check = next(check for check in checks.checks_of(family) if check.part == "decoder")
    types = {
        "": "Decoder",
        "l2": "Sequential",
        "l2.0": "SpectralNorm",
        "l2.0.module": "SpectralConvTranspose2d",
        "l2.1": "InstanceNorm2d",
        "l3": "Sequential",
    }
    prepared = judging.Prepared(family, program, ROOT, {check: checks.Clean(types=types)})
    file = file if right else LAYERS
    mutant = next(each for each in source_mutants(file, program.sources[file]) if each.function == function)
    blamed = Measurement(Mode.ISOLATED, Probe(), "l2.0.module", "", Quantity(Kind.OUTPUT), 0, error=1.0)
    assert judging.is_right(prepared, mutant, judging.Difference(check, judge(blamed))) == right


def test_what_holds_a_network_as_its_only_layer_is_no_wrapper_of_the_layers_inside():
    program, family, file = read_program(ROOT), family_named("cyclegan"), "ms_models/cyclegan.py"
    check = next(check for check in checks.checks_of(family) if check.name == "G_A")
    types = {"": "ResnetGenerator", "model": "Sequential", "model.18": "ReflectionPad2d", "model.19": "Conv2d"}
    prepared = judging.Prepared(family, program, ROOT, {check: checks.Clean(types=types)})
    text = program.sources[file]
    mutant = next(
        each for each in source_mutants(file, text) if "ReflectionPad2d(3)" in text.splitlines()[each.line - 1]
    )
    blamed = Measurement(Mode.ISOLATED, Probe(), "model.18", "", Quantity(Kind.OUTPUT), 0, error=1.0)
    assert judging.is_right(prepared, mutant, judging.Difference(check, judge(blamed)))


def test_a_layer_that_the_port_has_a_class_of_its_own_for_is_made_by_that_class():
    program, family = read_program(ROOT), family_named("whitebox")
    check = next(check for check in checks.checks_of(family) if check.part == "disc_blur")
    types = {"": "DiscriminatorSN", "ConvSN1": "ConvSN", "ConvSN1.layers": "SequentialCell"}
    own = types | {"ConvSN1.layers.0": "SpectralNormConv2d", "ConvSN1.layers.1": "LeakyReLU"}
    prepared = judging.Prepared(family, program, ROOT, {check: checks.Clean(types=own)})
    found = source_mutants(LAYERS, program.sources[LAYERS])
    mutant = next(each for each in found if each.function == "power_iteration" and each.owner == "SpectralNorm")
    blamed = Measurement(Mode.ISOLATED, Probe(), "ConvSN1.layers.0", "Conv2d", Quantity(Kind.OUTPUT), 0, error=1.0)
    assert judging.is_right(prepared, mutant, judging.Difference(check, judge(blamed)))


def test_other_forms_hold_every_setting_of_every_architecture():
    part = family_named("cyclegan").parts[0]
    forms = dict(other_forms(family_named("cyclegan"), part))
    for kwargs in part.variants:
        for name in kwargs.keys() & {"norm", "pad_mode", "reference_exact"}:
            own = kwargs["architecture"], kwargs[name]
            assert own in {(form["architecture"], form.get(name)) for form in (part.kwargs, *forms.values())}
    assert len(forms) == len({str(form) for form in forms.values()}) == 12


def test_lines_that_another_family_runs_are_told_from_those_that_none_runs():
    program = read_program(ROOT)
    of_adalin = [each for each in source_mutants(LAYERS, program.sources[LAYERS]) if each.owner == "AdaLIN"]
    file = "ms_models/descent.py"
    reduced = [each for each in source_mutants(file, program.sources[file]) if each.function == "reduced"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elsewhere, "families", lambda: (family_named("cyclegan"), family_named("ugatit")))
        found = elsewhere.who_runs("cyclegan", program, [*of_adalin, *reduced])
    assert of_adalin
    assert reduced
    assert found == dict.fromkeys(of_adalin, "ugatit")


def test_a_file_that_ends_its_runtimes_process_is_refused():
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", group=1)]
    weight = numpy_helper.from_array(np.ones((2, 1, 2, 2), np.float32), "w")
    shapes = (helper.make_tensor_value_info(name, 1, [1, channels, side, side]) for name, channels, side in
              (("x", 2, 4), ("y", 1, 5)))  # fmt: skip
    x, y = shapes
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weight]), ir_version=8)
    model.opset_import[0].version = 17
    found = {each.what: files._graph_result(("cyclegan", "G_A"), model, each)
             for each in graph_mutants(model) if "group 0" in each.what}  # fmt: skip
    assert [(each.verdict, each.reason) for each in found.values()] == [("refused", "SIGFPE in ONNX Runtime")]


def test_the_first_tensor_out_of_budget_ends_a_comparison():
    head = Measurement(Mode.ISOLATED, Probe(), "", "", Quantity(Kind.OUTPUT), 0)
    wrong = Measurement(**{**vars(head), "error": 1.0})
    assert not judge(wrong).equal
    stop = checks.stopping(frozenset())
    with pytest.raises(checks.FirstDifference):
        stop(wrong)
    assert stop(head).equal
    assert not checks.stopping(frozenset([checks.alarm_of(wrong)]))(wrong).equal

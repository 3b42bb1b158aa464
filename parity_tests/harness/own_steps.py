"""A user's own training step in both frameworks, compared as a family's is: see `training`.

The user says how a step is built; it is built anew for every run, because PyTorch makes it in float64 and, to know what
rounding does, several times in float32.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from convert.devices import CPU
from convert.errors import InputError, first_line
from convert.plan import Plan, plan_of
from ms_models.environment import device_in_use
from parity_tests.harness.judge import Verdict, blamed, judge
from parity_tests.harness.legs import Legs, legs_in_use
from parity_tests.harness.measurement import Mode
from parity_tests.harness.own_step_causes import find_update_cause
from parity_tests.harness.own_step_runs import TrainingStep, default_float64, require_step, seeded_alike
from parity_tests.harness.own_step_sides import MindSporeRun, TorchRun
from parity_tests.harness.pair import as_inputs, require_layers, require_networks, target_of
from parity_tests.harness.run import Comparison, Say, silent
from parity_tests.harness.sides.tree import Tree
from parity_tests.harness.training import StepsReference, measure_steps
from parity_tests.harness.training_noise import Results

Names = Mapping[str, Mapping[str, str]]  # network -> {PyTorch path: MindSpore path}, of layers called otherwise
MakeStep = Callable[[], TrainingStep]


def compare_steps(
    torch_step: MakeStep,
    ms_step: MakeStep,
    batches: Sequence[Any],
    names: Names | None = None,
    name: str = "training step",
    say: Say = silent,
    compiled: bool = False,
    reference_device: str = CPU,
) -> Comparison:
    """Compare your own training step in both frameworks: losses, rates, gradients, and what it makes of the weights.

        def torch_step():
            net = Net()
            optimizer = torch.optim.Adam(net.parameters(), 1e-3)

            def train(x, y):
                optimizer.zero_grad()
                loss = ((net(x) - y) ** 2).mean()
                loss.backward()
                optimizer.step()
                return {"loss": loss}

            return toonport.TrainingStep({"net": net}, {"main": optimizer}, train)

        result = toonport.compare_steps(torch_step, ms_step, [(x1, y1), (x2, y2), (x3, y3)])

    Every side starts each step from the weights that float64 PyTorch has then; moments, schedules, pools and counts are
    each side's own. A wrong beta or a late schedule shows from the second or third batch on, so give several. The first
    build of `torch_step` gives the weights. Draws must be the same on both sides: take noise from the batch, or from
    `numpy.random` or `random`, which are seeded alike before every step. Dropout is at rest on both sides, but for what
    the port compiles itself. Tensors that the step makes itself have PyTorch's default type, which is float64 in the
    run that is the truth. An optimiser need not be called in every step: gradients may be accumulated over several.

    Args:
        torch_step: builds the reference: networks in float32 on the CPU, optimisers and step, all new in every call.
        ms_step: builds the port, the same.
        batches: of each step, what `train` takes: an array, several in a list or tuple, or keyword arguments.
        names: of layers that are called otherwise: {network: {PyTorch path: MindSpore path}}.
        name: what to call it in the report.
        say: told in words what has been measured so far.
        compiled: run the port's networks and its functions of gradients as graphs.
        reference_device: one of `DEVICES`; where the reference runs in float32. The truth stays on the CPU.

    Returns:
        A Comparison: `.equal`, `.blamed` (its first: `.measurement.quantity.phase`, `.kind`, `.name`).

    Raises InputError: no such steps, networks or losses that do not fit together, or a step that fails.
    """
    if not batches:
        raise InputError("compare_steps: no batches")
    with _random_restored(), Legs.asked(device_in_use(), reference_device).running():
        given = [as_inputs(batch) for batch in batches]
        return _compared(torch_step, ms_step, given, names or {}, name, say, compiled)


def _compared(
    torch_step: MakeStep, ms_step: MakeStep, batches: Sequence[Tree], names: Names, name: str, say: Say, compiled: bool
) -> Comparison:
    first, port_step = _made(torch_step, "reference"), _made(ms_step, "port")
    plans = _plans(first, port_step, names)
    start = TorchRun(first, plans, batches, "float32").state()
    truth = TorchRun(_in_float64(torch_step), plans, batches, "float64", start)

    def control() -> TorchRun:
        """A run that shows what rounding does."""
        return TorchRun(_made(torch_step, "reference"), plans, batches, "float32", start, legs_in_use().reference)

    reference = StepsReference(truth, control)
    port = MindSporeRun(port_step, plans, batches, reference, compiled)

    def again() -> MindSporeRun:
        """Another run of the port, from the start."""
        return MindSporeRun(_made(ms_step, "port"), plans, batches, reference, compiled)

    verdicts, made = list[Verdict](), list[Results]()
    for measurement in measure_steps(reference, port, again, len(batches), list(first.optimizers), made.append):
        verdicts.append(judge(measurement))
        say(f"{name}: step {measurement.probe.step}, {len(verdicts)} tensors")
    if idle := [phase for phase in first.optimizers if phase not in truth.called]:
        raise InputError(f"the reference's step: optimiser {', '.join(idle)} was not called in any step")
    worst = next(iter(blamed(verdicts)), None)
    finding = None
    if worst:
        exact, rounded = _in_float64(torch_step), _made(torch_step, "reference")
        finding = find_update_cause(exact, rounded, reference, made, worst.measurement)
    facts = {"networks": list(plans), "steps": len(batches), "phases": list(first.optimizers)}
    facts["devices"] = legs_in_use().words
    return Comparison(
        name, tuple(verdicts), (Mode.TRAINING,), facts, finding=finding, resting=tuple(truth.resting(port.was_resumed))
    )


def _made(make: MakeStep, side: str) -> TrainingStep:
    """Build a step, always from the same seed."""
    seeded_alike(0)
    if not callable(make):
        raise InputError(f"the {side}'s step is a function without arguments that returns a TrainingStep")
    try:
        step = make()
    except Exception as error:
        raise InputError(f"the {side}'s step cannot be built: {type(error).__name__}: {first_line(error)}") from error
    require_step(step, side)
    return step


def _in_float64(make: MakeStep) -> TrainingStep:
    with default_float64():
        step = _made(make, "reference")
    for network in step.networks.values():
        network.double()
    return step


@contextmanager
def _random_restored() -> Iterator[None]:
    import torch

    ours, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)


def _plans(reference: TrainingStep, port: TrainingStep, names: Names) -> dict[str, Plan]:
    """Which tensor of each network is which."""
    for what in ("networks", "optimizers"):
        own, other = list(getattr(reference, what)), list(getattr(port, what))
        if sorted(own) != sorted(other) or not own:
            raise InputError(f"{what} of the reference: {', '.join(own) or 'none'}; of the port: {', '.join(other)}")
    if unknown := names.keys() - reference.networks.keys():
        raise InputError(f"names: there is no network {', '.join(sorted(unknown))}")
    return {
        part: _plan(part, module, port.networks[part], names.get(part, {}))
        for part, module in reference.networks.items()
    }


def _plan(part: str, module: Any, cell: Any, layers: Mapping[str, str]) -> Plan:
    require_networks(module, cell)
    target = target_of(cell)
    require_layers(layers, module, target)
    plan = plan_of(module, target, layers)
    lacking = [row.torch for row in plan.rows if not row.carried and row.mindspore not in target.shapes]
    if lacking:
        raise InputError(
            f"network {part}: the port lacks {', '.join(lacking[:5])}; names= says what is called otherwise"
        )
    return plan

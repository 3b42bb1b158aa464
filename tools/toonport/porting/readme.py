"""The README of a ported network: how it is used, what was assumed, and what was and was not proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toonport.porting.network import Ported
from toonport.porting.proof import Proof

if TYPE_CHECKING:
    from toonport.porting.porter import PortOptions


def readme(options: PortOptions, stem: str, ported: Ported, proof: Proof | None, checkpoint: str | None) -> str:
    """Return the text.

    Args:
        options: what was ported.
        stem: name of the file of the reference.
        ported: the port.
        proof: how it was proven; None: it was not.
        checkpoint: name of the file of its weights; None: it has none.
    """
    lines = [
        f"# {ported.name} for MindSpore",
        "",
        f"Ported from `{options.network.rpartition('/')[2]}` by `toonport port`.",
        "",
    ]
    if proof:
        load = f'mindspore.load_param_into_net(net, mindspore.load_checkpoint("{checkpoint}"))'
        lines += ["```python", *(["import mindspore"] if checkpoint else [])]
        lines += [f"from {stem}_ms import {ported.name}", ""]
        lines += [f"net = {ported.name}()", *([load] if checkpoint else []), "net.set_train(False)", "```", ""]
    lines += ["## What was assumed", ""]
    lines += [f"- {each}" for each in _assumed(options, stem, ported, weights=bool(checkpoint))]
    lines += ["", "## What was proven", ""]
    lines += [f"- {each}" for each in _proven(options, proof)]
    if ported.left_out:
        lines += ["", "## What could not be ported", "", *(f"- {each}" for each in ported.left_out)]
    return "\n".join(lines) + "\n"


def _assumed(options: PortOptions, stem: str, ported: Ported, weights: bool) -> list[str]:
    found = [
        "Decisions that the source makes by its settings or by the sizes of its input are made as for the input that "
        "was traced; sides that are computed with stay variable.",
        "The network is built as it was"
        + (f", with {dict(options.kwargs)}" if options.kwargs else "")
        + "; numbers stand in the code.",
    ]
    found += [f"Compares sizes, and is written as for the input's: `{line}`" for line in ported.decisions]
    if ported.defaults:
        said = ", ".join(f"{name}={default!r}" for name, default in ported.defaults.items())
        found.append(f"Arguments that were not given have their defaults, and cannot be given: `{said}`.")
    if ported.layers:
        found.append(
            "Some names mean something else in a cell and are others here; `map.toml` lists them, for `--map`."
        )
    if ported.constants:
        found.append(f"Tensors that are no part of the state lie in `{stem}_ms.npz`.")
    if options.weights is None and weights:
        found.append(f"The weights are random ones, of seed {options.seed}.")
    return found


def _proven(options: PortOptions, proof: Proof | None) -> list[str]:
    if proof is None:
        return ["Nothing: parts are missing."]
    found = [_modes(proof)]
    found.append(f"At inputs of {' and '.join(proof.sizes)}.")
    if len(proof.sizes) == 1:
        found.append("Not proven: another size or batch; the reference itself runs no other that was tried.")
    if options.train:
        found.append("Fifty training steps with Adam, in both frameworks.")
    reasons = dict.fromkeys(reason for comparison in proof.comparisons for reason in comparison.not_run)
    found += [f"Not run: {reason}" for reason in list(reasons)[:5]]
    unreached = [str(each) for comparison in proof.comparisons for each in comparison.unreached]
    found += [f"Not reached by the inputs: {each}" for each in unreached[:5]]
    return found


def _modes(proof: Proof) -> str:
    """In which ways both were compared."""
    measured = [verdict.measurement for comparison in proof.comparisons for verdict in comparison.verdicts]
    graphs = any(each.probe.compiled for each in measured if not each.not_run)
    how = "and as compiled graphs" if graphs else "but not as compiled graphs"
    return f"Weights, every layer alone, gradients, whole runs in both modes, {how}: see `report.html`."

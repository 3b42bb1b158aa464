"""What is known of a difference without an experiment: facts about the first one, or that no experiment was made."""

from collections.abc import Sequence

from parity_tests.harness.judge import ALONE, Verdict, blamed
from parity_tests.harness.measurement import Mode

IN_GRAPHS = "right operation by operation: compiled to a graph (ms.jit), MindSpore computes something else"
AGAIN = "right in a graph's first run: when a graph (ms.jit) runs again, MindSpore computes something else"
LOADED = "the weights differ: convert again and compare the ledger"
NOT_IDENTIFIED = "cause not identified"
UNKNOWN = f"{NOT_IDENTIFIED}: no experiment could be made"


def known_causes(verdicts: Sequence[Verdict]) -> list[str]:
    """Say what is known of the first difference where no experiment was made; empty when equal."""
    first = next((verdict.measurement for verdict in blamed(verdicts)), None)
    if first is None:
        return []
    if first.probe.compiled and first.mode in ALONE:
        of_first_runs = any(not each.equal and each.measurement.probe.call in (None, 1) for each in verdicts)
        return [IN_GRAPHS if of_first_runs else AGAIN]
    return [LOADED if first.mode is Mode.WEIGHTS else UNKNOWN]

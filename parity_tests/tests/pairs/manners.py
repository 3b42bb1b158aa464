"""All manners of writing networks, and what a comparison makes of each."""

from parity_tests.harness.run import Comparison, compare
from parity_tests.tests.pairs.manner import Manner
from parity_tests.tests.pairs.manners_layers import LAYERS
from parity_tests.tests.pairs.manners_more import MORE
from parity_tests.tests.pairs.manners_structure import STRUCTURE
from parity_tests.tests.pairs.twins import Twin, twin

MANNERS = (*STRUCTURE, *LAYERS, *MORE)


def right_port(manner: Manner) -> Comparison:
    """Compare the right port of a manner."""
    return _compared(manner, twin(manner.layers, manner.forward, manner.port))


def wrong_port(manner: Manner) -> Comparison:
    """Compare the port with the bug."""
    pair = twin(manner.layers, manner.forward, manner.wrong or manner.port)
    if manner.spoil:
        manner.spoil(pair.cell)
    return _compared(manner, pair)


def _compared(manner: Manner, pair: Twin) -> Comparison:
    return compare(pair.module, pair.cell, manner.inputs, keywords=manner.keywords, dtype=manner.dtype)


def blamed_layer(comparison: Comparison) -> str | None:
    """The layer that is blamed first, None where nothing is."""
    return next((verdict.measurement.layer for verdict in comparison.blamed), None)

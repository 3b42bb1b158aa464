"""In which order of colours a network's pictures are: what was recorded with its weights, or what is known of them."""

import numpy as np

from convert.errors import InputError
from convert.identify import Network
from convert.ledger import recorded_channels
from convert.tensors import tensor_sha256

ORDERS = ("RGB", "BGR")


def channel_order(network: Network, given: str | None = None) -> str:
    """Return "RGB" or "BGR", the order of a drawing network's pictures.

    What the user says comes first; then the ledger beside the file; the system that wrote the file; a published
    file's weights, known by their values; at last the family's own order.

    Args:
        network: a network of a checkpoint, of a family that draws.
        given: what the user says.

    Raises InputError: no such order; what lies beside the file is no ledger.
    """
    if given is not None and given not in ORDERS:
        raise InputError(f"unknown order of colours '{given}'; orders: {', '.join(ORDERS)}")
    recorded = recorded_channels(network.path, network.part.name)
    if recorded is not None and recorded not in ORDERS:
        known = " or ".join(ORDERS)
        raise InputError(f"{network.path}: its ledger gives '{recorded}' as order of colours, not {known}")
    how = network.family.cartoonize
    return given or recorded or _known(network) or (how.channels if how else ORDERS[0])


def _known(network: Network) -> str | None:
    """What the spelling of a file or the values of its tensors tell; None where neither does."""
    for spelling in network.part.spellings:
        if spelling.name == network.spelling and spelling.channels:
            return spelling.channels
    for name, sha256, order in network.part.published:
        if name in network.tensors and tensor_sha256(network.tensors[name].read().astype(np.float32)) == sha256:
            return order
    return None

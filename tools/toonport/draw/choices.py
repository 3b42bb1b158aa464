"""What can run a network that draws."""

from importlib.util import find_spec

BACKENDS = ("mindspore", "onnxruntime", "torch", "openvino")


def usable_backends() -> tuple[str, ...]:
    """Return the backends that are installed."""
    return tuple(name for name in BACKENDS if name != "openvino" or find_spec(name))

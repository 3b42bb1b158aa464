"""What can run a network that draws."""

BACKENDS = ("mindspore", "onnxruntime", "torch")

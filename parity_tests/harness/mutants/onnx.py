"""Bugs planted in ONNX files, as edits of the graph, to test the ONNX leg of the checker.

They are what exporters, simplifiers and hands make: another attribute, another constant, a node left out. Not in
the list: differences that ONNX Runtime's own rounding hides at the released size; the leg looks at small pictures
for that reason.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from parity_tests.harness.mutants.bugs import Change, OnnxBug, Subject, planter
from parity_tests.harness.sides.base import Array

UGATIT: Subject = ("ugatit", "genA2B")
CYCLEGAN: Subject = ("cyclegan", "G_A")
PATCH: Subject = ("cyclegan", "D_A")
WHITEBOX: Subject = ("whitebox", "generator")
ATTENTION: Subject = ("sagan_cyclegan", "netG_A")
EPS = 1e-5


def _nodes(model: Any, kind: str) -> Iterator[Any]:
    return (node for node in model.graph.node if node.op_type == kind)


@planter
def _attribute(model: Any, kind: str, name: str, value: Any) -> None:
    """Give all nodes of a kind another value of an attribute."""
    for node in _nodes(model, kind):
        others = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*others, helper.make_attribute(name, value)])


@planter
def _constants(model: Any, fits: Callable[[str, Array], bool], change: Callable[[Array], Array]) -> None:
    """Change the constants that fit."""
    for constant in model.graph.initializer:
        value = numpy_helper.to_array(constant)
        if fits(constant.name, value):
            changed = np.ascontiguousarray(change(value), value.dtype)
            constant.CopyFrom(numpy_helper.from_array(changed, constant.name))


def _named(end: str) -> Callable[[str, Array], bool]:
    return lambda name, value: name.endswith(end)


def _is_eps(name: str, value: Array) -> bool:
    return value.dtype == np.float32 and value.ndim == 0 and bool(np.isclose(value, EPS))


def _is_weight(name: str, value: Array) -> bool:
    return value.dtype == np.float32 and value.ndim > 1


@planter
def _swap(model: Any, first: str, second: str) -> None:
    """Swap two constants, by the ends of their names."""
    constants = model.graph.initializer
    one, other = (next(each for each in constants if each.name.endswith(end)) for end in (first, second))
    one.name, other.name = other.name, one.name


@planter
def _replace(model: Any, kind: str, new: str, keep: slice = slice(None), count: int | None = None) -> None:
    """Make nodes of a kind (the first `count`) another kind without attributes; `keep` says which inputs stay."""
    for node in list(_nodes(model, kind))[:count]:
        inputs = list(node.input)[keep]
        node.op_type = new
        del node.input[:], node.attribute[:]
        node.input.extend(inputs)


@planter
def _at_input(model: Any, *steps: tuple[str, Any]) -> None:
    """Put operators with one constant each between the input and the first layer."""
    source = value = model.graph.input[0].name
    nodes = []
    for number, (kind, constant) in enumerate(steps):
        name = f"planted_{number}"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), f"{name}.constant"))
        axis: dict[str, Any] = {"axis": 1} if kind == "Gather" else {}
        nodes.append(helper.make_node(kind, [value, f"{name}.constant"], [name], name, **axis))
        value = name
    for node in model.graph.node:
        if node.op_type != "Shape":
            node.input[:] = [value if name == source else name for name in node.input]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


@planter
def _both(model: Any, first: Change, second: Change) -> None:
    """Change what is written in two ways: small norms are one node, large ones are written out."""
    first(model)
    second(model)


def _maximum_is_mean(model: Any) -> None:
    for node in _nodes(model, "ReduceMax"):
        node.op_type = "ReduceMean"


def _biased(model: Any) -> None:
    """Divide the sums of squares by N: their divisors N - 1 become N."""
    divisors = {node.input[1] for node in _nodes(model, "Div") if node.output[0].startswith("var")}
    _constants(lambda name, value: name in divisors, lambda value: value + 1)(model)


def _concat_swapped(model: Any) -> None:
    for node in _nodes(model, "Concat"):
        if node.output[0].startswith("cat"):
            node.input[:] = list(node.input)[::-1]


def _without_output(model: Any) -> None:
    del model.graph.output[-1]


def _renamed_output(model: Any) -> None:
    """Give the last output another name."""
    before, after = model.graph.output[-1].name, "renamed"
    model.graph.output[-1].name = after
    for node in model.graph.node:
        node.output[:] = [after if name == before else name for name in node.output]
        node.input[:] = [after if name == before else name for name in node.input]


def _outputs_turned(model: Any) -> None:
    outputs = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def _relu6(model: Any) -> None:
    """Limit every ReLU to 6."""
    for name, limit in (("planted_low", 0), ("planted_high", 6)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(limit, np.float32), name))
    for node in _nodes(model, "Relu"):
        node.op_type = "Clip"
        node.input.extend(["planted_low", "planted_high"])


ONNX_BUGS: tuple[OnnxBug, ...] = (
    OnnxBug("onnx-pad-zero", "zero for reflection padding", CYCLEGAN, ("ReflectionPad2d",),
            _attribute("Pad", "mode", "constant")),
    OnnxBug("onnx-pad-edge", "replication for reflection padding", UGATIT, ("ReflectionPad2d",),
            _attribute("Pad", "mode", "edge")),
    OnnxBug("onnx-instance-norm-eps", "instance norm eps 1e-4", CYCLEGAN, ("InstanceNorm2d",),
            _both(_attribute("InstanceNormalization", "epsilon", 10 * EPS),
                  _constants(_is_eps, lambda value: value * 10))),
    OnnxBug("onnx-adalin-eps", "AdaLIN and LIN eps 1e-4", UGATIT, ("AdaLIN", "LIN"),
            _constants(lambda name, value: _is_eps(name, value) and "rewrite" not in name,
                       lambda value: value * 10)),
    OnnxBug("onnx-biased-variance", "AdaLIN and LIN divide by N instead of N - 1", UGATIT, ("AdaLIN", "LIN"),
            _biased),
    OnnxBug("onnx-leaky-slope", "LeakyReLU slope 0.01", PATCH, ("LeakyReLU",),
            _attribute("LeakyRelu", "alpha", 0.01)),
    OnnxBug("onnx-relu-for-leaky", "ReLU for LeakyReLU", WHITEBOX, ("LeakyReLU",),
            _replace("LeakyRelu", "Relu")),
    OnnxBug("onnx-resize-linear", "bilinear for nearest up-sampling", UGATIT, ("Upsample",),
            _attribute("Resize", "mode", "linear")),
    OnnxBug("onnx-resize-shifted", "nearest up-sampling that rounds up", UGATIT, ("Upsample",),
            _attribute("Resize", "nearest_mode", "ceil")),
    OnnxBug("onnx-bias-dropped", "a bias of zero", UGATIT, ("conv1x1",),
            _constants(_named("conv1x1.bias"), np.zeros_like)),
    OnnxBug("onnx-half-precision", "weights rounded to float16", CYCLEGAN, ("Conv2d",),
            _constants(_is_weight, lambda value: value.astype(np.float16))),
    OnnxBug("onnx-transposed-square", "a square linear weight transposed", UGATIT, ("FC.2",),
            _constants(_named("FC.2.weight"), np.transpose)),
    OnnxBug("onnx-mean-for-max", "CAM: average pooling in the maximum branch", UGATIT, ("gmp_fc",),
            _maximum_is_mean),
    OnnxBug("onnx-concat-order", "CAM: the two halves concatenated the other way round", UGATIT, ("conv1x1",),
            _concat_swapped),
    OnnxBug("onnx-swapped-weights", "two weights of equal shape swapped", UGATIT, ("UpBlock1_1.conv1",),
            _swap("UpBlock1_1.conv1.weight", "UpBlock1_1.conv2.weight")),
    OnnxBug("onnx-gamma-beta", "gamma and beta heads swapped", UGATIT, ("gamma", "beta"),
            _swap("network.gamma.weight", "network.beta.weight")),
    OnnxBug("onnx-tanh-dropped", "no tanh at the end", CYCLEGAN, ("Tanh",), _replace("Tanh", "Identity")),
    OnnxBug("onnx-deconv-shifted", "transposed convolutions shifted by one pixel", CYCLEGAN, ("ConvTranspose2d",),
            _attribute("ConvTranspose", "pads", [0, 0, 2, 2])),
    OnnxBug("onnx-skip-dropped", "a residual block without its skip", WHITEBOX, ("ResBlock_0",),
            _replace("Add", "Identity", slice(1, 2), 1)),
    OnnxBug("onnx-input-range", "pictures in [0, 1] instead of [-1, 1]", CYCLEGAN, ("model.0",),
            _at_input(("Add", np.float32(1)), ("Div", np.float32(2)))),
    OnnxBug("onnx-bgr", "colours in the order BGR", CYCLEGAN, ("model.0",),
            _at_input(("Gather", np.array([2, 1, 0])))),
    OnnxBug("onnx-output-missing", "an output left out", UGATIT, ("heatmap",), _without_output),
    OnnxBug("onnx-output-renamed", "an output under another name", UGATIT, ("heatmap", "renamed"), _renamed_output),
    OnnxBug("onnx-outputs-turned", "the outputs in another order", UGATIT, ("output", "heatmap"), _outputs_turned),
    OnnxBug("onnx-relu6", "ReLU6 for ReLU", UGATIT, ("ReLU",), _relu6),
    OnnxBug("onnx-attention-axis", "softmax over the wrong axis", ATTENTION, ("Softmax",),
            _attribute("Softmax", "axis", 1)),
)  # fmt: skip

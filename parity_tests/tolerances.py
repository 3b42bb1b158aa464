"""Every tolerance of the project, one row each, with its reason and the noise measured behind it.

A tensor of the port is equal to the reference when

    error of the port <= factor * noise + floor * ulp * scale

where error and noise are root-mean-square distances from float64 PyTorch, noise being that of PyTorch itself in
the compared precision, ulp that precision's unit in the last place (2**-23 for float32), and scale the size of
the numbers that were added up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

# A budget above this share of the signal, or a larger share of elements that rounding decides, cannot tell a bug from
# noise: the report says so instead of "equal".
BLIND_SHARE = 0.5

# A comparison of whose tensors more than this share cannot tell a bug from noise, or could not be run, ends as "cannot
# tell": among right ports in float32 the largest share seen is 7.9 % (photo2cartoon's training under one of nine seeds,
# the median is 2.3 %; 124 trainings of the other families at most 1.1 %).
UNDECIDED_SHARE = 0.1

# Unit in the last place of numbers near 1, by precision; ULP is that of float32.
ULPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
ULP = ULPS["float32"]

# The unit that floors are counted in. MindSpore's kernels hold their constants (slopes, epsilons) in float32 whatever
# the precision of the tensors (LeakyReLU(0.2) in float64 is off by 2.9e-9 of its value), so float64 gets half an
# ulp of float32.
FLOOR_UNITS: Mapping[str, float] = ULPS | {"float64": 2.0**-24}


@dataclass(frozen=True)
class Budget:
    """One row: how much of the reference's own noise a mode grants the port, and why."""

    factor: float
    floor: float
    reason: str
    floor_per_pixel: float = 0.0


class Mode(str, Enum):
    """How two networks are compared; each mode has its own budget."""

    WEIGHTS = "weights"
    ISOLATED = "isolated"
    GRADIENTS = "gradients"
    BLOCK_GRADIENTS = "block gradients"  # of a layer that holds others
    ACCUMULATED = "accumulated"
    TRAINING = "training"
    ONNX = "onnx"
    ONNX_FLOAT16 = "onnx float16"
    OPENVINO = "openvino"
    LITERT = "litert"
    MINDIR = "mindir"
    RUNTIME = "runtime"  # a function of the user's own

    def __str__(self) -> str:
        return str(self.value)


EXPORTED = (Mode.ONNX, Mode.OPENVINO, Mode.LITERT, Mode.MINDIR, Mode.RUNTIME)  # of exported files, by what runs them
BUDGETS: Mapping[Mode, Budget] = {
    Mode.WEIGHTS: Budget(0.0, 0.0, "conversion copies bytes: any difference is a bug"),
    Mode.ISOLATED: Budget(
        4.0,
        2.0,
        "one layer, the reference's own input: MindSpore's noise is within 1.1 times PyTorch's on large "
        "tensors; small ones scatter, and the floor covers tensors that PyTorch happens to hit exactly",
    ),
    Mode.GRADIENTS: Budget(
        6.0, 16.0, "one layer's gradients: MindSpore adds up a parameter's gradient pixel by pixel, PyTorch in pairs"
    ),
    Mode.BLOCK_GRADIENTS: Budget(
        20.0,
        20000.0,
        "a block's gradients jump where rounding moves a value across the kink of a ReLU; such jumps reach 1e-3 "
        "of the largest gradient, a wrong path through the block changes it by about its own size",
    ),
    Mode.ACCUMULATED: Budget(
        10.0, 8.0, "rounding differences grow along the network and scatter with its conditioning"
    ),
    Mode.TRAINING: Budget(
        5.0,
        64.0,
        "the noise is the largest of 24 float32 runs whose weights are moved by one or four ulps, per ulp, and whose "
        "gradients of biases are added up as MindSpore does; a jump at the kink of a ReLU does not shrink with the "
        "ulps, and five times a quarter of it is still above it",
    ),
    Mode.ONNX: Budget(
        10.0,
        8.0,
        "ONNX Runtime sums the means of the layer norms one by one, so its error grows with the number of "
        "pixels: a correct photo2cartoon export is 4.7 times PyTorch's error at 256x256",
        floor_per_pixel=0.01,
    ),
    Mode.OPENVINO: Budget(
        10.0,
        8.0,
        "as ONNX Runtime's: of 254 right exports in OpenVINO's float32, every family, the worst is 0.6 of it, and "
        "photo2cartoon as released 0.8",
        floor_per_pixel=0.01,
    ),
    Mode.LITERT: Budget(
        10.0,
        8.0,
        "as ONNX Runtime's: the worst of 12 right files, which onnx2tf wrote, is 0.1 of it",
        floor_per_pixel=0.01,
    ),
    Mode.MINDIR: Budget(
        10.0, 8.0, "as whole networks in MindSpore: the worst of 254 right files, every family, is 0.5 of it"
    ),
    Mode.RUNTIME: Budget(
        10.0,
        8.0,
        "each layer alone, by the noise of the whole run up to there: of 254 right exports the worst is 0.3 of it, and "
        "photo2cartoon as released 0.5",
        floor_per_pixel=0.01,
    ),
    Mode.ONNX_FLOAT16: Budget(
        4.0,
        1.0,
        "the noise is PyTorch's own run in float16, which rounds more than the file: its norms stay in float32",
    ),
}

# MindSpore float32 against recorded float64 numbers: the original's float32 run is the noise; four times it,
# because the recording holds one run only, and a floor for values that this run happens to hit.
GOLDEN_FLOAT32 = Budget(4.0, 16.0, "recorded maximum of one float32 run of the original")

# A gradient that is zero but for rounding is judged on the scale of the network's largest gradient.
GRADIENT_SCALE_FLOOR = 1e-3

# A block's gradient is judged on at most this many times its own size, where the block's largest is larger: rounding
# that moves one of a few hundred values across a kink changes the gradient of a hundred channels by up to 6e-3 of its
# size (4 times the 2.4e-3 of the row "block gradients" is granted); the average behind a CAM logit, beside its maximum,
# makes a share of one to the root of the number of pixels.
OWN_GRADIENTS = 4.0

# Where a gradient is at most this many times its largest deviation among 24 runs whose weights are moved by up to four
# units in the last place, rounding decides the direction of Adam's first step, and that element of the weight's change
# is left out (the gradient itself is compared all the same). Once the deviation, a right port of photo2cartoon still
# had 8 tensors out of budget under one seed of two; twice it none, four times it none in twenty.
TIED_GRADIENT = 4.0

# Training tensors that deviate by more than this share of their size when weights move by four units in the last place
# cannot tell a bug from noise (see BLIND_SHARE). Their noise is not divided by the units. In the gradient of a bias
# before an instance norm the terms cancel but for rounding: then 47 ulps of the weight's gradient, on whose size such
# moments are judged.
MOSTLY_ROUNDING = 0.4

# A gradient in training, or of a block, that is off by at most this share of its size may have jumped at a kink that
# rounding crosses: one pixel's sign in sagan_cyclegan's cycle loss moved its generator's by up to 3 %, a ReLU deep in
# photo2cartoon's hourglasses the whole network's by 1.4 % under one seed. It counts as equal where it is within its
# budget from weights, or inputs, that are one or four units in the last place away (up to eight runs); a bug is still
# there.
KINK_SHARE = 0.1

# Float64 against the recorded float64 numbers of the original systems, relative: they carry 12 digits.
FLOAT64_RELATIVE = 1e-9

# The same after each of four training steps. Adam turns rounding of small gradients into whole steps, so rounding
# grows: weights moved by one float64 ulp change the losses of steps 1 to 4 by up to 5e-12, 5e-12, 4e-10 and 4e-8,
# and another processor sums in another order. Losses near 0, squares of tiny logits, are judged on a scale of 1e-3.
FLOAT64_TRAINING_RELATIVE = (1e-10, 1e-10, 1e-8, 1e-6)
LOSS_SCALE_FLOOR = 1e-3

# The Fréchet distance against another way to the matrix root, both in float64: eigenvalues that should be 0 come out at
# about 1e-16 of the largest, and their roots at 1e-8 of it, one for each dimension that the vectors do not span. A
# covariance divided by N instead of N - 1 is off by 1 / N.
FRECHET_RELATIVE = 1e-6

# Weights after the recorded steps of systems whose Adam has beta1 = 0: a bias before an instance norm has no gradient
# but float64 rounding (1e-16), of which Adam makes rounding / eps = 1e-8 of a step (7e-9 of the bias seen).
FLOAT64_STATE_RELATIVE = 1e-6

# Pictures of the backends: the float images differ by rounding, which moves a value across a whole grey level
# here and there. Of the pixels, 99.99 % are wholly equal with trained White-box weights; 99.9 % are even
# between PyTorch and its own float64 with seeded weights of photo2cartoon at 256x256, which amplify rounding, so that
# whole pixels are asked for with trained weights, single values with seeded ones.
BACKEND_LEVELS = 1
BACKEND_EQUAL_SHARE = 0.999

# Recorded pictures were made with OpenCV 5, whose resizing and turning differ by a level or two from OpenCV 4's.
RECORDED_LEVELS = 2

# Real photos against what the reference's own programs made of them: another landmark network moves the crop by up
# to 3.3 %, another matte network keeps or drops veils and collars (mean overlap 0.93).
CROP_SIDE_SHARE = 0.05
MATTE_OVERLAP = 0.9

# Float64 PyTorch against TensorFlow 1's recorded numbers, which exist in float32 only: 3.2e-6 seen.
TENSORFLOW_ABSOLUTE = 1e-5

# White-box weights in MindSpore float32 against pictures that TensorFlow Lite made in float32, before and after the
# guided filter, whose division by a small variance enlarges the difference: 8.8e-6 and 4.4e-5 seen, of which the
# recording's own rounding is 7.7e-6 and 4.3e-5.
WHITEBOX_RAW = 2e-5
WHITEBOX_FILTERED = 1e-4

# Float64 against training steps that the original ran in float32 only, relative, by step: the first step's losses are
# one forward pass (6e-7 seen, 3e-6 in the norms of weights that it moved); Adam then turns rounding into whole steps
# for weights with tiny gradients (4e-5 seen).
RECORDED_FLOAT32_STEPS = (5e-6, 2e-4, 2e-4)


@dataclass(frozen=True)
class Kernel:
    """Largest error of another program's float32 kernel of a function on the CPU, in units in the last place.

    A result y is off by up to relative * min(1, |y|)^power * |y| + absolute.
    """

    relative: float
    absolute: float = 0.0
    power: float = 0.0


# MindSpore 2.8 makes exp, log and tanh of short polynomials. Measured against float64 over inputs of spread 0.003 to
# 100 around -3 to 3, by name in PyTorch's dispatcher; PyTorch's own kernels are within 1. The runs of the reference
# that measure noise make such errors; a wrong slope, axis or gate is off by 10^4 times as much.
KERNELS: Mapping[str, Kernel] = {
    "tanh": Kernel(850, power=8),  # from 2 at 0.1 to 844 beyond 3.5
    "mkldnn_rnn_layer": Kernel(850),  # an LSTM: products of tanh
    "exp": Kernel(55),  # grows with the input: 28 at 1, 53 at 20, 154 at 90
    "log": Kernel(4, 4),
    "log1p": Kernel(4, 4),
    "expm1": Kernel(30, 4),
    "elu": Kernel(5, 4),  # exp(x) - 1
    "celu": Kernel(5, 4),
    "sigmoid": Kernel(18),
    "silu": Kernel(18),
    "mish": Kernel(40),
    "softplus": Kernel(20),
    "log_sigmoid_forward": Kernel(20, 4),
    "_softmax": Kernel(15),
    "_log_softmax": Kernel(4, 8),
    "_native_multi_head_attention": Kernel(15),
    "_scaled_dot_product_flash_attention_for_cpu": Kernel(15),
}

# The same of ONNX Runtime 1.31, measured over inputs of -90 to 90: its sigmoid is a polynomial to which one half is
# added, off by 1.3 units in the last place of 1 however small the result, and so is what is made of it. Errors of
# x * sigmoid(x) are 3 units near 0 and grow to 19 at -17, which ten times 4 covers. Tanh, exp, erf, softplus, softsign,
# mish and softmax are within 4 units of their own size.
RUNTIME_KERNELS: Mapping[str, Kernel] = {
    "sigmoid": Kernel(0, 2.6),
    "silu": Kernel(0, 8),
    "gelu": Kernel(0, 2.4),
    "elu": Kernel(0, 1.1),
    "hardsigmoid": Kernel(0, 0.8),
}

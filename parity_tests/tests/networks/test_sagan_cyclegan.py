"""SAGAN-CycleGAN and DTN: networks, spectral norm, losses and files against the recorded numbers of the source."""

import json

import numpy as np
import pytest

from convert.conversion import convert_file
from convert.family import resolve
from convert.formats import open_checkpoint
from convert.identify import identify
from convert.plan import build_plan
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore, load_mindspore
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.cases import save_torch, seeded_family
from parity_tests.tests.golden_others import distance, image, parameters, positions
from parity_tests.tolerances import FLOAT64_RELATIVE, GOLDEN_FLOAT32, GRADIENT_SCALE_FLOOR, ULP
from torch_ref.build import build_torch

SA_G, UNET = {"architecture": "sa", "z_dim": 100, "conv_dim": 64}, {"architecture": "unet", "num_downs": 7, "ngf": 64}
SA_D, PATCH = {"architecture": "sa", "conv_dim": 64}, {"architecture": "patch", "ndf": 64, "n_layers": 3}
HALF = {"z_dim": 100, "conv_dim": 64}
NETWORKS = {
    "Generator_SA": ("sagan_cyclegan", "netG_A", SA_G),
    "Discriminator_SA": ("sagan_cyclegan", "netD_A", SA_D),
    "UnetGenerator7_128": ("sagan_cyclegan", "netG_A", UNET),
    "PatchDiscriminator": ("sagan_cyclegan", "netD_A", PATCH),
    "Encoder": ("dtn", "encoder", HALF),
    "Decoder": ("dtn", "decoder", HALF),
}
KEYS = {
    "lzw_Generator_SA": NETWORKS["Generator_SA"],
    "lzw_Discriminator_SA": NETWORKS["Discriminator_SA"],
    "lzw_UnetGenerator_default7": NETWORKS["UnetGenerator7_128"],
    "lzw_Discriminator_patch": NETWORKS["PatchDiscriminator"],
    "lzw_Encoder": NETWORKS["Encoder"],
    "lzw_Decoder": NETWORKS["Decoder"],
}
WHOLE = {
    "lzw_CycleGANModel_sn_single_device": ("sagan_cyclegan", SA_G, SA_D),
    "lzw_CycleGANModel_sn_multi_gpu": ("sagan_cyclegan", SA_G, SA_D),
    "lzw_CycleGANModel_wgangp_unet_single_device": ("sagan_cyclegan", UNET, PATCH),
    "lzw_DTNmodel_single_device": ("dtn", HALF, {"conv_dim": 64}),
}


def _layout(family, part, kwargs):
    return {row.torch: row.spec.shape for row in build_plan(part_named(family_named(family), part), kwargs).rows}


def _network(shared, name):
    """A recorded network: its record, its part with arguments, its weights and its input."""
    record = json.loads((shared / "golden" / "others" / "lzw_networks_losses.json").read_text())["nets"][name]
    family, part, kwargs = NETWORKS[name]
    weights = parameters(_layout(family, part, kwargs), record["gain"])
    about = record["input"]
    inputs = np.abs(image("z", about["shape"])) if "abs" in about["name"] else image(about["name"], about["shape"])
    return record, part_named(family_named(family), part), kwargs, weights, inputs


@pytest.mark.shared
@pytest.mark.parametrize("name", KEYS)
def test_names_order_and_shapes_equal_the_original(name, shared):
    wanted = json.loads((shared / "keys" / f"{name}.json").read_text())
    assert [(key, list(shape)) for key, shape in _layout(*KEYS[name]).items()] == list(wanted.items())


@pytest.mark.shared
@pytest.mark.parametrize("name", WHOLE)
def test_files_of_the_whole_model_are_read_and_written_bit_for_bit(name, shared, tmp_path):
    keys = json.loads((shared / "keys" / f"{name}.json").read_text())
    family, generator, discriminator = WHOLE[name]
    values = {key: np.full(shape, index, np.float32) for index, (key, shape) in enumerate(keys.items())}
    source = save_torch(tmp_path / "iter-200.pth", values)
    networks = identify(open_checkpoint(source))
    assert {network.family.name for network in networks} == {family}
    for network in networks[:-1]:
        wanted = discriminator if network.part.name.startswith(("netD", "net_D")) else generator
        assert dict(network.kwargs) == wanted
    convert_file(source, tmp_path / "model.ckpt")
    convert_file(tmp_path / "model.ckpt", tmp_path / "back.pth")
    import torch

    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == [key.replace(".module.", ".", 1) if "multi_gpu" in name else key for key in keys]
    assert all(
        np.array_equal(found.numpy(), wanted) for found, wanted in zip(back.values(), values.values(), strict=True)
    )


def test_weight_bar_spelling_is_understood(tmp_path):
    content = seeded_family("sagan_cyclegan")["netD_A"]
    renamed = {key.replace("weight_matrices", "weight_bar"): value for key, value in content.items()}
    (network,) = identify(open_checkpoint(save_torch(tmp_path / "d.pth", renamed)), "sagan_cyclegan", "netD_A")
    assert network.spelling == "weight_bar spectral norm"
    assert list(network.tensors) == list(content)


@pytest.mark.shared
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_equals_the_original_in_float64_layer_by_layer(name, shared):
    record, part, kwargs, weights, inputs = _network(shared, name)
    side = TorchSide(build_torch(part, kwargs, weights), "float64")
    side.set_training(True)
    layers = {}
    side.trace([inputs], lambda call: layers.__setitem__(call.layer, call.outputs[0]))
    kinds = side.layer_types()
    # the source's LeakyReLU overwrites the skip of a U-Net level; the ReLU that follows makes up for it
    same = [key for key in record["f64"]["modules"] if kinds[key] != "UnetSkipConnectionBlock"]
    far = {key: distance(record["f64"]["modules"][key], layers[key]) for key in same}
    far["output"] = distance(record["f64"]["output"], layers[""])
    far |= {key: distance(one, side.state()[key]) for key, one in record["f64"].get("state_after", {}).items()}
    assert max(far.values()) < FLOAT64_RELATIVE, max(far, key=far.get)


@pytest.mark.shared
@pytest.mark.parametrize("name", NETWORKS)
def test_mindspore_float32_is_within_the_stated_noise_of_the_original(name, shared):
    record, part, kwargs, weights, inputs = _network(shared, name)
    side = MindSporeSide(build_mindspore(part, kwargs, weights))
    layers = {}
    side.trace([inputs], lambda call: layers.__setitem__(call.layer, (call.inputs[0], call.outputs[0])))
    output = layers[""][1]
    wanted = np.array(record["f64"]["output"]["samples"])
    found = output.reshape(-1)[positions(output.size)]
    scale = np.abs(wanted).max()
    if name == "Discriminator_SA":  # two logits, each a sum of 8192 numbers that nearly cancel
        terms = weights["last.0.weight"]
        scale = np.linalg.norm(terms) * np.sqrt(np.mean(layers["last"][0] ** 2)) * np.sqrt(terms.size) / 4
    limit = GOLDEN_FLOAT32.factor * record["f32_minus_f64_maxabs"] + GOLDEN_FLOAT32.floor * ULP * scale
    assert np.abs(found - wanted).max() <= limit
    for key, one in record["f64"].get("state_after", {}).items():
        assert distance(one, side.state()[key]) < GOLDEN_FLOAT32.floor * ULP * 4, key


def _wrapped(transposed):
    """A wrapped layer of both frameworks in one container, with the weights of the recorded component."""
    import mindspore
    import torch

    kind, name = ("SpectralConvTranspose2d", "sn_convT") if transposed else ("SpectralConv2d", "sn_conv")
    sides = []
    for package in ("torch_ref", "ms_models"):
        wrapper, layer = (resolve(package, f"spectral_wrapper.{one}") for one in ("SpectralNorm", kind))
        sides.append(wrapper(layer(6, 10, 4, 2, 1)))
    shapes = {key: tuple(value.shape) for key, value in sides[0].state_dict().items()}
    weights = parameters(shapes, 1.4, f"{name}.")
    sides[0].load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    load_mindspore(sides[1], weights)
    assert isinstance(sides[1], mindspore.nn.Cell)
    return sides, weights


@pytest.mark.parametrize("transposed", [False, True])
def test_wrapper_divides_by_u_w_v_of_the_weight_as_it_lies(transposed):
    import mindspore
    import torch

    (reference, port), weights = _wrapped(transposed)
    matrix = weights["module.weight_matrices"].astype(np.float64).reshape(10 if not transposed else 6, -1)
    v = matrix.T @ weights["module.weight_u"]
    v /= np.linalg.norm(v) + 1e-12
    u = matrix @ v
    u /= np.linalg.norm(u) + 1e-12
    wanted = matrix / (u @ matrix @ v)
    for found in (reference.normalized_weight().detach().numpy(), port.normalized_weight().asnumpy()):
        assert np.abs(found.reshape(matrix.shape) - wanted).max() < 16 * ULP * np.abs(wanted).max()
    assert np.abs(reference.module.weight_u.numpy() - u).max() < 16 * ULP
    assert np.abs(port.module.weight_v.asnumpy() - v).max() < 16 * ULP
    inputs = image("wrapped", (2, 6, 8, 8))
    outputs = [reference.eval()(torch.from_numpy(inputs)) for _ in range(2)]
    again = [port.set_train(False)(mindspore.Tensor(inputs)).asnumpy() for _ in range(2)]
    assert not torch.equal(*outputs)  # eval mode moves too
    for first, second in zip(outputs, again, strict=True):
        assert np.abs(first.detach().numpy() - second).max() < 64 * ULP


@pytest.mark.parametrize("transposed", [False, True])
def test_looking_ahead_changes_the_gradient_of_sigma_and_not_its_value(transposed):
    import mindspore
    import torch

    gradients = {}
    for calls in (0, 1):
        (reference, port), _ = _wrapped(transposed)
        for side in (reference, port):
            side.calls_ahead = calls
        seed = image("seed", tuple(reference.module.weight_matrices.shape))
        value = (reference.normalized_weight() * torch.from_numpy(seed)).sum()
        value.backward()
        wanted_value = float(value.detach())

        def objective(port=port, seed=seed):
            return (port.normalized_weight() * mindspore.Tensor(seed)).sum()

        found, by_weight = mindspore.value_and_grad(objective, None, port.module.weight_matrices)()
        assert abs(float(found) - wanted_value) < 64 * ULP * max(1.0, abs(wanted_value))
        wanted = reference.module.weight_matrices.grad.numpy()
        gradients[calls] = wanted
        assert np.linalg.norm(by_weight.asnumpy() - wanted) < 64 * ULP * np.linalg.norm(wanted)
    assert np.linalg.norm(gradients[1] - gradients[0]) > 1e-3 * np.linalg.norm(gradients[0])


@pytest.mark.shared
def test_three_forwards_of_one_picture_equal_the_original(shared):
    record = json.loads((shared / "golden" / "others" / "lzw_networks_losses.json").read_text())
    _, part, kwargs, weights, inputs = _network(shared, "Discriminator_SA")
    side = TorchSide(build_torch(part, kwargs, weights), "float64")
    for name in ("out1", "out2", "out3"):
        (output,) = side.call("", [inputs])
        assert distance(record["Discriminator_SA_three_forwards"]["f64"][name], output) < FLOAT64_RELATIVE, name
    (single,) = side.call("", [inputs[:1]])
    assert single.shape == (1,)


@pytest.mark.shared
def test_loss_of_every_mode_equals_the_original(shared):
    import mindspore
    import torch

    record = json.loads((shared / "golden" / "others" / "lzw_networks_losses.json").read_text())["ganloss"]["f64"]
    logits = 2.5 * image("pred", (2, 1, 6, 6)).astype(np.float64)
    for name, (value, norm) in record.items():
        mode, real, generator = name.split("|")
        flags = real == "real=True", generator == "gen=True"
        tensor = torch.tensor(logits, requires_grad=True)
        loss = resolve("torch_ref", "sagan_cyclegan.GANLoss")(mode).double()(tensor, *flags)
        loss.backward()
        assert abs(float(loss.detach()) - value) < FLOAT64_RELATIVE * 10, name
        assert abs(float(tensor.grad.abs().sum()) - norm) < FLOAT64_RELATIVE * 10, name
        port = resolve("ms_models", "sagan_cyclegan.GANLoss")(mode)
        found, gradient = mindspore.value_and_grad(lambda x, port=port, flags=flags: port(x, *flags))(
            mindspore.Tensor(logits.astype(np.float32))
        )
        assert abs(float(found) - value) < 16 * ULP * max(1.0, abs(value)), name
        assert np.abs(gradient.asnumpy() - tensor.grad.numpy()).max() < 16 * ULP, name


@pytest.mark.parametrize("package", ["torch_ref", "ms_models"])
def test_unknown_mode_of_the_loss_is_refused_with_the_known_ones(package):
    with pytest.raises(ValueError, match="'hinge'; modes: sn, sn\\+gp, wgangp, wgan, vanilla, lsgan"):
        resolve(package, "sagan_cyclegan.GANLoss")("hinge")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Discriminator_SA", "PatchDiscriminator"])
@pytest.mark.parametrize("kind", ["", "_real", "_fake"])
def test_gradient_penalty_and_its_gradients_equal_the_original(name, kind, shared):
    import torch

    from parity_tests.tests.golden_others import uniform
    from torch_ref.gradient_penalty import gradient_penalty

    record = json.loads((shared / "golden" / "others" / "lzw_networks_losses.json").read_text())
    record = record["gradient_penalty"]["f64"]
    _, part, kwargs, weights, _ = _network(shared, name)
    network = build_torch(part, kwargs, weights).double()
    real, fake = (torch.from_numpy(image(f"gp_{one}", (2, 3, 64, 64))).double() for one in ("real", "fake"))
    alpha = torch.from_numpy(uniform("alpha:0", (2, 1, 1, 1), 0, 1)).double()
    points = {"": alpha * real + (1 - alpha) * fake, "_real": real, "_fake": fake}[kind]
    penalty = gradient_penalty(network, points)
    value = record[f"{name}.penalty{kind}"]
    assert abs(float(penalty.detach()) - value) < FLOAT64_RELATIVE * value
    if kind:
        return
    penalty.backward()
    found = {key: one.grad for key, one in network.named_parameters() if one.requires_grad}
    largest = max(float(one.norm()) for one in found.values() if one is not None)
    for key, gradient in found.items():
        wanted = record[f"{name}.grad.{key}"]
        if wanted is None:
            assert gradient is None or not gradient.any(), key
            continue
        limit = FLOAT64_RELATIVE * max(wanted["l2"], GRADIENT_SCALE_FLOOR * largest)
        assert abs(float(gradient.norm()) - wanted["l2"]) < limit, key

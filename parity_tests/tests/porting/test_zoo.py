"""Small networks of packages that `toonport port` was not written for; skipped where those are not installed."""

from functools import partial

import numpy as np
import pytest

from parity_tests.tests.porting.written import built

pytestmark = pytest.mark.filterwarnings("ignore")


def convmixer(timm):
    return timm.models.convmixer.ConvMixer(dim=24, depth=3, kernel_size=5, patch_size=4, num_classes=10)


def resmlp(timm):
    mixer = timm.models.mlp_mixer
    block = partial(mixer.ResBlock, init_values=1e-4)
    kwargs = {"num_blocks": 2, "embed_dim": 32, "mlp_ratio": 4, "block_layer": block, "norm_layer": mixer.Affine}
    return mixer.MlpMixer(num_classes=10, img_size=32, patch_size=8, **kwargs)


def pvt(timm):
    kwargs = {"embed_dims": (16, 16, 32, 32), "num_heads": (1, 2, 2, 2), "sr_ratios": (4, 2, 2, 1)}
    kwargs |= {"depths": (1, 1, 1, 1), "mlp_ratios": (2.0, 2.0, 2.0, 2.0)}
    return timm.models.pvt_v2.PyramidVisionTransformerV2(num_classes=10, **kwargs)


def poolformer(timm):
    return timm.models.metaformer.MetaFormer(depths=(1, 1, 1, 1), dims=(8, 16, 16, 32), num_classes=10)


def efficientnet(torchvision):
    net = torchvision.models.efficientnet
    stage = partial(net.MBConvConfig, width_mult=0.5, depth_mult=0.5)
    stages = [stage(1, 3, 1, 32, 16, 1), stage(6, 3, 2, 16, 24, 2), stage(6, 5, 2, 24, 40, 2)]
    return net.EfficientNet(stages, 0.2, num_classes=10, last_channel=64)


def unetplusplus(smp):
    kwargs = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    return smp.UnetPlusPlus("timm-mobilenetv3_small_minimal_100", **kwargs)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("package", "build"),
    [
        ("timm", convmixer),
        ("timm", resmlp),
        ("timm", pvt),
        ("timm", poolformer),
        ("torchvision", efficientnet),
        ("segmentation_models_pytorch", unetplusplus),
    ],
)
def test_networks_of_packages_compute_what_pytorch_does(package, build, tmp_path):
    found = pytest.importorskip(package, reason="the extra 'port-tests' is not installed")
    import mindspore
    import torch

    from toonport.porting.network import port_network
    from toonport.porting.values import leaves

    torch.manual_seed(0)
    network = build(found).eval()
    given = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    port = port_network(network, (torch.from_numpy(given),), {})
    cell, _ = built(build.__name__, tmp_path, network, port)
    with torch.no_grad():
        wanted = leaves(network(torch.from_numpy(given)))
    for one, other in zip(leaves(cell(mindspore.Tensor(given))), wanted, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.numpy(), rtol=2e-3, atol=2e-5)

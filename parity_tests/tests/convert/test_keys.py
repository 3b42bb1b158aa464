"""The reference's state dicts: names, order and shapes equal to the original systems'."""

import json

import pytest

from convert.plan import build_plan
from convert.registry import families, part_named
from convert.registry import family_named as family

pytestmark = pytest.mark.quick

SHARED_KEYS = [
    ("photo2cartoon", "genA2B", {"ngf": 32, "img_size": 256, "light": True}, "photo2cartoon_gen_light_ngf32_img256"),
    ("photo2cartoon", "genA2B", {"ngf": 64, "img_size": 256, "light": True}, "photo2cartoon_gen_light_ngf64_img256"),
    ("photo2cartoon", "genA2B", {"ngf": 8, "img_size": 64, "light": True}, "photo2cartoon_gen_light_ngf8_img64"),
    ("photo2cartoon", "genA2B", {"ngf": 32, "img_size": 256, "light": False}, "photo2cartoon_gen_full_ngf32_img256"),
    ("photo2cartoon", "genA2B", {"ngf": 64, "img_size": 256, "light": False}, "photo2cartoon_gen_full_ngf64_img256"),
    ("photo2cartoon", "genA2B", {"ngf": 8, "img_size": 64, "light": False}, "photo2cartoon_gen_full_ngf8_img64"),
    ("photo2cartoon", "disGA", {"input_nc": 3, "ndf": 32, "n_layers": 7}, "photo2cartoon_disG_nlayers7_ndf32"),
    ("photo2cartoon", "disGA", {"input_nc": 3, "ndf": 64, "n_layers": 7}, "photo2cartoon_disG_nlayers7_ndf64"),
    ("photo2cartoon", "disLA", {"input_nc": 3, "ndf": 32, "n_layers": 5}, "photo2cartoon_disL_nlayers5_ndf32"),
    ("photo2cartoon", "disLA", {"input_nc": 3, "ndf": 64, "n_layers": 5}, "photo2cartoon_disL_nlayers5_ndf64"),
    ("ugatit", "disGA", {"input_nc": 3, "ndf": 64, "n_layers": 7}, "ugatit_disG_nlayers7_ndf64"),
    ("ugatit", "disLA", {"input_nc": 3, "ndf": 64, "n_layers": 5}, "ugatit_disL_nlayers5_ndf64"),
    *(
        (
            "ugatit",
            "genA2B",
            {"input_nc": 3, "output_nc": 3, "ngf": 64, "n_blocks": 4, "img_size": 256, "light": light},
            f"ugatit_gen_{name}_ngf64_nblocks4_img256",
        )
        for light, name in ((True, "light"), (False, "full"))
    ),
    ("mobilefacenet", "mobilefacenet", {"embedding_size": 512}, "mobilefacenet_512"),
    (
        "facialcartoonization",
        "generator",
        {"channel": 32, "num_blocks": 4, "in_channels": 3, "out_channels": 3, "form": "published"},
        "fc_unet_generator",
    ),
    *(
        (
            "facialcartoonization",
            f"disc_{name}",
            {"in_channel": channels, "channel": 32, "form": "published"},
            f"fc_discriminator_{kind}_{channels}ch",
        )
        for name, kind, channels in (("gray", "textural", 1), ("blur", "surface", 3))
    ),
]


@pytest.mark.shared
@pytest.mark.parametrize(("family_name", "part", "kwargs", "file"), SHARED_KEYS, ids=[row[3] for row in SHARED_KEYS])
def test_names_order_and_shapes_equal_the_original(family_name, part, kwargs, file, shared):
    wanted = json.loads((shared / "keys" / f"{file}.json").read_text())
    plan = build_plan(part_named(family(family_name), part), kwargs)
    assert [(row.torch, list(row.spec.shape)) for row in plan.rows] == list(wanted.items())
    assert {row.spec.dtype for row in plan.rows if row.torch.endswith("num_batches_tracked")} <= {"int64"}
    assert {row.spec.dtype for row in plan.rows if not row.torch.endswith("num_batches_tracked")} == {"float32"}


@pytest.mark.shared
def test_names_order_and_shapes_of_vgg19_equal_the_original_but_for_the_prefix(shared):
    wanted = json.loads((shared / "keys" / "fc_vgg19_conv_sequential.json").read_text())
    part = family("vgg19").parts[0]
    rows = build_plan(part, part.kwargs).rows
    assert [(row.torch.removeprefix("conv."), list(row.spec.shape)) for row in rows] == list(wanted.items())


def test_names_and_shapes_equal_the_projects_own_record(golden):
    record = golden("keys.json")
    for name, wanted in record.items():
        family_name, part = name.split("/")[:2]
        found = part_named(family(family_name), part)
        rows = build_plan(found, wanted["kwargs"]).rows
        assert len(rows) == wanted["count"]
        assert [[row.torch, list(row.spec.shape)] for row in rows[:: wanted["every"]]] == wanted["sample"]


def test_released_photo2cartoon_has_the_published_size():
    numbers = 0
    for part in family("photo2cartoon").parts:
        for row in build_plan(part, part.kwargs).rows:
            size = 1
            for side in row.spec.shape:
                size *= side
            numbers += size
    assert round(numbers * 4 / 2**20) == 137


@pytest.mark.parametrize("part", [part for one in families() for part in one.parts], ids=lambda part: part.name)
def test_configuration_is_inferred_from_shapes(part):
    shapes = build_plan(part, part.kwargs).shapes
    assert part.infer(shapes) == dict(part.kwargs)
    assert part.infer({"foreign.weight": (3, 3)}) is None


def test_family_and_part_names_are_unique():
    names = [one.name for one in families()]
    assert len(names) == len(set(names))
    for one in families():
        parts = [part.name for part in one.parts]
        assert len(parts) == len(set(parts))

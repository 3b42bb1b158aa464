"""The networks that are kept as data are the reference's, at widths that were not recorded, too."""

import json
import random
import subprocess
import sys

import pytest

from convert.descriptions import WIDTHS, _content, known_description, structure
from convert.plan import build_without_values, plan_from, plan_of
from convert.registry import families
from parity_tests.tests.cases import save_torch, seeded_state

PARTS = [part for family in families() for part in family.parts]


def _cases(class_name):
    """Constructor arguments of every structure of a class, with seeded widths that it may have."""
    draw = random.Random(class_name)
    for name, line in _content()[1].items():
        owner, _, said = name.partition(" ")
        if owner == class_name:
            kwargs, steps = json.loads(said), json.loads(line)["steps"]
            widths = dict(zip([width for width in WIDTHS if width in kwargs], steps, strict=True))
            yield {**kwargs, **{width: step * draw.randint(1, 160 // step) for width, step in widths.items()}}


@pytest.mark.parametrize("class_name", sorted({part.class_name for part in PARTS}))
def test_every_plan_is_that_of_the_reference(class_name):
    cases = list(_cases(class_name))
    assert cases
    for kwargs in cases:
        wanted = plan_of(build_without_values(class_name, kwargs))
        found = plan_from(known_description(class_name, kwargs))
        assert found.rows == wanted.rows, kwargs
        assert (found.layer_types, found.paths) == (wanted.layer_types, wanted.paths), kwargs


def test_every_architecture_of_the_registry_is_kept():
    for part in PARTS:
        for kwargs in (part.kwargs, *part.variants):
            assert structure(part.class_name, kwargs) in _content()[1]


@pytest.mark.parametrize("kwargs", [{"ngf": 9, "img_size": 256, "light": True}, {"ngf": 8}, {"ngf": 0}])
def test_what_is_not_kept_is_left_to_the_reference(kwargs):
    assert known_description("photo2cartoon.ResnetGenerator", kwargs) is None


def test_a_small_file_is_converted_without_a_framework(tmp_path):
    source = save_torch(tmp_path / "a.pt", {"genA2B": seeded_state("photo2cartoon", "genA2B")})
    script = (
        "import sys; from toonport.cli import main; "
        "code = main(['inspect', sys.argv[1], '-q']) + main(['convert', sys.argv[1], sys.argv[2], '-q']) + "
        "main(['convert', sys.argv[2], sys.argv[3], '-q']); "
        "print(code, sorted({'torch', 'mindspore', 'onnx', 'PIL', 'scipy'} & sys.modules.keys()))"
    )
    names = [str(source), str(tmp_path / "a.ckpt"), str(tmp_path / "b.pt")]
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"

"""The command line as a user meets it: outcomes, exit codes, messages, files."""

import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.formats import open_checkpoint
from convert.registry import FAMILIES
from parity_tests.harness.request import CompareOptions
from parity_tests.tests.cases import save_torch, seeded_state
from toonport import __version__
from toonport.cli import COMMANDS, main
from toonport.train.config import trained_family

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"toonport {command}" in capsys.readouterr().out


def test_version_and_usage_errors(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert __version__ in capsys.readouterr().out
    for argv in ([], ["nonsense"], ["convert", "only-one"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2


def test_module_and_console_script_are_the_same_program():
    for command in ([sys.executable, "-m", "toonport"], [str(Path(sys.executable).with_name("toonport"))]):
        result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
        assert result.stdout.strip() == f"toonport {__version__}", result.stderr


@pytest.mark.parametrize("family", [family.name for family in FAMILIES if family.training])
def test_train_says_what_every_setting_is(family, capsys):
    assert main(["train", family, "--settings"]) == 0
    said = capsys.readouterr().out.partition("Attributes:")[2]
    settings = trained_family(family)[1].settings
    assert [field.name for field in fields(settings) if not re.search(rf"\b{field.name}\b", said)] == []


def test_convert_says_what_it_did(six_networks, tmp_path, capsys):
    assert main(["convert", str(six_networks), str(tmp_path / "p_{part}.ckpt")]) == 0
    text = capsys.readouterr().out
    assert "photo2cartoon genA2B (ngf=8, light=True, img_size=256): 406 tensors" in text
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        f"p_{part}.ckpt" for part in ("disGA", "disGB", "disLA", "disLB", "genA2B", "genB2A")
    ]
    assert len(list(tmp_path.glob("*.ledger.json"))) == 6


def test_convert_one_part(six_networks, tmp_path):
    assert main(["convert", str(six_networks), str(tmp_path / "one.ckpt"), "--part", "disLB"]) == 0
    assert len(open_checkpoint(tmp_path / "one.ckpt").tensors) == 27
    assert main(["convert", str(six_networks), str(tmp_path / "two.ckpt"), "--part", "genX"]) == 2


def test_unknown_names_are_answered_with_the_known_ones(six_networks, tmp_path, capsys):
    assert main(["compare", "cyclegun"]) == 2
    assert "photo2cartoon" in capsys.readouterr().err
    assert main(["compare", "photo2cartoon", "--part", "genC"]) == 2
    assert "genA2B" in capsys.readouterr().err
    assert main(["convert", str(six_networks), str(tmp_path / "x.bin")]) == 2
    assert ".safetensors" in capsys.readouterr().err
    assert main(["compare", "mobilefacenet", "--mode", "everything"]) == 2
    assert "isolated" in capsys.readouterr().err


def test_inspect_prints_a_table_and_json(six_networks, capsys):
    assert main(["inspect", str(six_networks)]) == 0
    text = capsys.readouterr().out
    assert "genA2B.ConvBlock1.1.weight" in text
    assert "[8, 3, 7, 7]" in text
    assert main(["inspect", str(six_networks), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data["tensors"]) == 936
    assert [network["part"] for network in data["networks"]][:2] == ["genA2B", "genB2A"]


def test_inspect_shows_files_that_belong_to_no_family(tmp_path, capsys, write):
    path = write(tmp_path / "x.safetensors", {"layer.weight": np.zeros((2, 3), np.float16)})
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "float16" in text
    assert "not recognised" in text


def test_list_shows_every_family_with_its_source(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for word in ("photo2cartoon", "ugatit", "mobilefacenet", "1907.10830", "MIT", "genA2B", "disLB"):
        assert word in text


def test_doctor_names_versions_and_devices(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("mindspore", "torch devices", "numpy", "ready"):
        assert word in text


def test_doctor_sees_a_foreign_package_of_our_name(tmp_path):
    (tmp_path / "convert.py").write_text("")
    code = "from toonport.doctor import shadowed_packages; print([one.what for one in shadowed_packages()])"
    setup = f"sys.path.insert(0, {str(tmp_path)!r}); sys.modules.pop('convert', None)"
    script = f"import sys; import toonport.doctor; {setup}; {code}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "package convert" in result.stdout


def test_compare_prints_every_named_layer(tmp_path, capsys):
    weights = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    argv = ["compare", "photo2cartoon", "--weights", str(weights), "--size", "32", "--mode", "isolated", "--rows"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    for layer in ("model.0", "model.10", "gap_fc", "conv1x1", "leaky_relu", "pad", "conv", "(network)"):
        assert any(line.startswith(f"{layer} ") and line.endswith("equal") for line in lines), layer


def test_compare_takes_every_flag_and_reads_a_picture_as_every_program_does(tmp_path, monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
    Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    asked = []
    monkeypatch.setattr("toonport.commands.compare.compare_family", lambda options, *_: asked.append(options) or [])
    flags = "--part genA2B --weights w --ported p --onnx o --mode train,onnx --steps 2 --size 64 --seed 3 --dtype fp64"
    more = f"--device gpu --captures c --reuse-port --input {tmp_path / 'turned.png'}"
    assert main(["compare", "photo2cartoon", *flags.split(), *more.split()]) == 0
    (options,) = asked
    np.testing.assert_array_equal(options.picture(32)[0].transpose(1, 2, 0), (upright / 127.5 - 1).astype(np.float32))
    assert replace(options, picture=None) == CompareOptions(
        "photo2cartoon",
        "genA2B",
        "w",
        "p",
        ("train", "onnx"),
        2,
        False,
        None,
        64,
        3,
        "float64",
        "gpu",
        Path("c"),
        True,
        Path("o"),
    )


def test_compare_takes_height_and_width(tmp_path, capsys):
    weights = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    argv = ["compare", "photo2cartoon", "--weights", str(weights), "--mode", "accumulated", "--rows"]
    assert main([*argv, "--size", "24x40"]) == 0
    assert "24x40 px eval" in capsys.readouterr().out
    for wrong in ("24x", "1x2x3"):
        with pytest.raises(SystemExit):
            main([*argv, "--size", wrong])


def test_compare_refuses_a_size_that_the_network_cannot_run(tmp_path, capsys):
    weights = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    assert main(["compare", "photo2cartoon", "--weights", str(weights), "--size", "20"]) == 2
    assert "at least 24" in capsys.readouterr().err


def test_compare_says_when_a_device_is_absent(capsys):
    assert main(["compare", "mobilefacenet", "--device", "ascend"]) == 2
    assert "device ascend is not usable here by MindSpore" in capsys.readouterr().err


def test_internal_errors_have_their_own_code(monkeypatch, capsys):
    from toonport.commands import list as command_list

    monkeypatch.setattr(command_list, "families", lambda: 1 / 0)
    assert main(["list"]) == 3
    assert "internal error: ZeroDivisionError" in capsys.readouterr().err


def test_a_network_whose_batch_norm_ends_in_one_pixel_is_compared_in_training_too(capsys):
    assert main(["compare", "mobilefacenet", "--mode", "accumulated", "--brief"]) == 0
    assert "mobilefacenet mobilefacenet: equal" in capsys.readouterr().out

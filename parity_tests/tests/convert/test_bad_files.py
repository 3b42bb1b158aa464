"""Files that cannot be used: one clear line, exit code 2, nothing written, nothing executed."""

import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from convert.conversion import convert_file
from convert.disk import atomic_path
from convert.errors import InputError
from convert.formats import write_checkpoint
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.cli import main


class _Payload:
    """A pickle that would create a file when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def good(tmp_path, write):
    state = seeded_state("photo2cartoon", "disLA")
    return {
        ".pt": save_torch(tmp_path / "good.pt", state),
        ".ckpt": write(tmp_path / "good.ckpt", state),
        ".safetensors": write(tmp_path / "good.safetensors", state),
    }


def _refused(source, capsys, tmp_path, *words):
    target = tmp_path / "result.ckpt"
    assert main(["convert", str(source), str(target)]) == 2
    error = capsys.readouterr().err
    line = [text for text in error.splitlines() if text.startswith("toonport convert:")]
    assert len(line) == 1
    assert source.name in line[0]
    for word in words:
        assert word in line[0]
    assert not [path for path in tmp_path.iterdir() if "result" in path.name]


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_empty_missing_and_garbage_files(suffix, good, capsys, tmp_path):
    path = tmp_path / f"bad{suffix}"
    _refused(path, capsys, tmp_path, "no such file")
    path.write_bytes(b"")
    _refused(path, capsys, tmp_path, "empty")
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    _refused(path, capsys, tmp_path, "not a")


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(suffix, part, good, capsys, tmp_path):
    content = good[suffix].read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * part)])
    _refused(path, capsys, tmp_path)


def test_ckpt_cut_exactly_after_a_tensor_is_refused(tmp_path, capsys, write):
    state = seeded_state("photo2cartoon", "disLA")
    write(tmp_path / "cut.ckpt", dict(list(state.items())[:-1]))
    path = tmp_path / "cut.ckpt"
    path.write_bytes(path.read_bytes()[:-17])
    _refused(path, capsys, tmp_path, "missing", list(state)[-1])


@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
def test_flipped_bytes_are_found_by_the_checksum(suffix, good, capsys, tmp_path):
    content = bytearray(good[suffix].read_bytes())
    content[len(content) // 2] ^= 0x40
    path = tmp_path / f"flipped{suffix}"
    path.write_bytes(content)
    _refused(path, capsys, tmp_path, "damaged")


def test_the_content_decides_where_the_suffix_says_otherwise(good, capsys, tmp_path):
    for content, suffix in ((".pt", ".ckpt"), (".ckpt", ".pt"), (".safetensors", ".pt"), (".pt", ".safetensors")):
        path = tmp_path / f"other{suffix}"
        path.write_bytes(good[content].read_bytes())
        (network,) = convert_file(path, tmp_path / "read.ckpt").networks
        assert network.part.name == "disLA"
        path.write_bytes(good[content].read_bytes()[:-200])
        _refused(path, capsys, tmp_path)


def test_malicious_pickles_are_refused_and_not_run(capsys, tmp_path):
    import torch

    witness = tmp_path / "executed"
    torch.save({"genA2B": _Payload(witness)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Payload(witness)))
    torch.save(
        {"w": torch.zeros(2), "x": _Payload(witness)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False
    )
    with zipfile.ZipFile(tmp_path / "handmade.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Payload(witness)))
    for name in ("zip.pt", "plain.pt", "legacy.pt", "handmade.pt"):
        _refused(tmp_path / name, capsys, tmp_path)
        assert not witness.exists()


def test_whole_modules_are_refused_with_advice(capsys, tmp_path):
    import torch

    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    _refused(tmp_path / "module.pt", capsys, tmp_path, "refused", "state dict")


def test_files_of_pytorch_before_1_6_are_read(tmp_path):
    import torch

    state = {name: torch.from_numpy(value) for name, value in seeded_state("photo2cartoon", "disLA").items()}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert len(convert_file(tmp_path / "old.pt", tmp_path / "new.ckpt").networks[0].tensors) == len(state)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_values_that_are_not_finite_are_refused_by_name(value, suffix, tmp_path, capsys, write):
    state = seeded_state("photo2cartoon", "disLA")
    state["conv1x1.bias"][3] = value
    path = write(tmp_path / f"nan{suffix}", state)
    _refused(path, capsys, tmp_path, "conv1x1.bias", "not finite")


def test_wrong_family_and_foreign_files_are_refused(good, capsys, tmp_path, write):
    assert main(["convert", str(good[".pt"]), str(tmp_path / "r.ckpt"), "--family", "mobilefacenet"]) == 2
    assert "do not belong to mobilefacenet" in capsys.readouterr().err
    foreign = write(tmp_path / "foreign.safetensors", {"layer.weight": np.zeros((2, 2), np.float32)})
    _refused(foreign, capsys, tmp_path, "layer.weight", "toonport inspect")


def test_an_existing_file_survives_a_failed_conversion(good, tmp_path, capsys):
    target = tmp_path / "kept.ckpt"
    convert_file(good[".pt"], target)
    before = target.read_bytes()
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    assert main(["convert", str(tmp_path / "bad.pt"), str(target)]) == 2
    assert target.read_bytes() == before


def test_a_failure_while_writing_leaves_nothing(tmp_path):
    def tensors():
        yield "a", np.zeros(1000, np.float32)
        raise InputError("the source broke")

    with pytest.raises(InputError, match="the source broke"):
        write_checkpoint(tmp_path / "x.ckpt", tensors(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "x.bin"
    target.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from convert.disk import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert result.returncode == -9
    assert target.read_text() == "old"


def test_unwritable_target_is_a_clear_error(good, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot"):
        convert_file(good[".pt"], tmp_path / "file" / "x.ckpt")
    with pytest.raises(InputError, match="cannot be written"), atomic_path(tmp_path / "folder"):
        raise OSError(28, "No space left on device")


def test_source_and_target_must_differ(good):
    with pytest.raises(InputError, match="same file"):
        convert_file(good[".pt"], good[".pt"])

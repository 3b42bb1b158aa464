"""The corpus of hostile files: nothing runs, nothing hangs, nothing takes gigabytes, and each is one clear line."""

import pytest

from parity_tests.tests.hostile.bombs import BOMBS
from parity_tests.tests.hostile.payloads import FORMATS, hostile_file, payloads
from parity_tests.tests.hostile.reading import MIB, read
from toonport.cli import main

# What PyTorch or this reader puts something inert in the place of, so that the rest of a file can be read.
INERT = {"pathlib.Path.touch", "functools.partial", "functools.reduce"}


@pytest.mark.parametrize("kind", FORMATS)
def test_no_payload_is_run_and_each_is_called_hostile(kind, tmp_path):
    witness = tmp_path / "witness"
    wanted = payloads(witness)
    assert len(wanted) >= 25
    for name, opcodes in wanted.items():
        found = read(hostile_file(tmp_path, kind, opcodes))
        assert not found.fault, name
        assert not witness.exists(), name
        if name not in INERT:
            assert "do not trust this file" in found.problem, (name, found.problem)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_stand_for_much_are_refused_in_time_and_memory(name, tmp_path):
    path = BOMBS[name](tmp_path)
    found = read(path)
    assert not found.fault
    assert found.problem
    assert "\n" not in found.problem
    assert found.seconds < 15, f"{found.seconds:.1f} s"
    assert found.peak <= 4 * path.stat().st_size + 256 * MIB, f"{found.peak / MIB:.0f} MiB"


def test_the_command_says_one_line_and_writes_nothing(tmp_path, capsys):
    path = hostile_file(tmp_path, "torch", payloads(tmp_path / "witness")["os.system"])
    assert main(["convert", str(path), str(tmp_path / "out.ckpt")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "do not trust this file" in line
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]

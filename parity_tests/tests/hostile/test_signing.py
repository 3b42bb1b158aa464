"""The commands of SECURITY.md that sign and verify a converted file."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convert.conversion import convert_file
from parity_tests.tests.cases import ROOT, save_torch, seeded_state

PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
PROGRAMS = ("openssl", "model_signing")


@pytest.fixture
def programs():
    """Where the programs are; skips where one is not installed."""
    found = {name: shutil.which(name, path=PLACES) for name in PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"{', '.join(missing)} not installed (pip install 'toonport[sign]')")
    return found


def test_a_signed_file_is_verified_until_a_byte_changes(programs, tmp_path):
    target = tmp_path / "weights.ckpt"
    convert_file(save_torch(tmp_path / "a.pt", seeded_state("photo2cartoon", "disLA")), target, "photo2cartoon")
    lines = [line.split() for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("    ")]
    commands = [shlex.split(" ".join(line)) for line in lines if line[0] in PROGRAMS]
    assert [command[:2] for command in commands[2:]] == [["model_signing", "sign"], ["model_signing", "verify"]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(command):
        """Run one, as a user would in the folder of the file."""
        line = [programs[command[0]], *command[1:]]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    for command in commands:
        done = run(command)
        assert done.returncode == 0, done.stderr
    content = bytearray(target.read_bytes())
    content[-5] ^= 1
    target.write_bytes(content)
    done = run(commands[-1])
    assert done.returncode == 1
    assert "mismatch" in done.stdout + done.stderr

"""Conversions killed at every step that touches the disk, full disks, and two processes at one target."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from convert.conversion import convert_file
from convert.disk import atomic_path, folder_locked, locked
from convert.errors import InputError
from convert.formats import open_checkpoint
from convert.identify import open_source
from convert.ledger import ledger_path
from parity_tests.tests.cases import drawn_picture, save_torch, seeded_family, seeded_state
from toonport.cli import main
from toonport.photo.picture import write_picture

STEPS = ("replace", "fsync")  # of the module `os`: between them, nothing that another process can see is changed


def _step(done, number, original, *arguments):
    done[0] += 1
    if done[0] > number:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)


def _killed_at(number, work):
    """Do some work in a process that is killed before its step with this number; whether it came that far."""
    child = os.fork()
    if child == 0:  # in the child; no way out but its end
        done = [0]
        for name in STEPS:
            setattr(os, name, partial(_step, done, number, getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _holds(path, state):
    tensors = open_source(path).tensors
    return all(np.array_equal(tensors[name].read(), value) for name, value in state.items())


@pytest.fixture
def sources(tmp_path):
    states = [seeded_state("photo2cartoon", "disLA", tag) for tag in ("old", "new")]
    files = [save_torch(tmp_path / "old.pt", states[0]), save_torch(tmp_path / "new.pt", states[1])]
    return states, files


def test_a_killed_conversion_leaves_old_file_and_old_ledger_or_the_new_ones(sources, tmp_path):
    (old, new), (old_file, new_file) = sources
    whole = tmp_path / "whole"
    convert_file(new_file, whole / "x.safetensors", "photo2cartoon")
    kills = 0
    for number in range(100):
        folder = tmp_path / f"killed{number}"
        target = folder / "x.safetensors"
        convert_file(old_file, target, "photo2cartoon")
        if not _killed_at(number, lambda to=target: convert_file(new_file, to, "photo2cartoon")):
            break
        kills += 1
        assert _holds(target, old) != _holds(target, new)  # opening it checks its ledger
        source = json.loads(ledger_path(target).read_text())["source"]["file"]
        assert source == ("old.pt" if _holds(target, old) else "new.pt")
        convert_file(new_file, target, "photo2cartoon")
        assert _digests(folder) == _digests(whole)
    assert kills >= 6


def test_a_killed_set_is_whole_or_refused(parts, tmp_path):
    whole, source, _ = parts
    refused = 0
    for number in range(0, 40, 4):
        folder = tmp_path / f"killed{number}"
        folder.mkdir()
        pattern = folder / "p_{part}.safetensors"
        if not _killed_at(number, lambda to=pattern: convert_file(source, to)):
            break
        if len(list(folder.glob("p_*.safetensors"))) < len(list(whole.glob("p_*.safetensors"))):
            with pytest.raises(InputError, match=r"is lacking|no file matches"):
                open_source(pattern)
            refused += 1
        else:
            open_source(pattern)
        convert_file(source, pattern)
        assert _digests(folder) == _digests(whole)
    assert refused >= 3


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder with the three files of a set, what they were made of, and another such source."""
    folder = tmp_path_factory.mktemp("parts")
    source = save_torch(folder / "three.pt", seeded_family("whitebox"))
    other = save_torch(folder / "other.pt", seeded_family("whitebox", "other"))
    convert_file(source, folder / "set" / "p_{part}.safetensors")
    return folder / "set", source, other


def _copied(parts, tmp_path):
    for file in parts[0].glob("p_*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "p_{part}.safetensors"


def test_a_set_with_a_lacking_file_is_refused(parts, tmp_path):
    pattern = _copied(parts, tmp_path)
    convert_file(pattern, tmp_path / "all.pt")
    (tmp_path / "p_disc_gray.safetensors").unlink()
    with pytest.raises(InputError, match=r"p_disc_gray\.safetensors is lacking"):
        convert_file(pattern, tmp_path / "some.pt")
    assert not (tmp_path / "some.pt").exists()


def test_a_file_of_another_conversion_in_a_set_is_refused(parts, tmp_path):
    pattern = _copied(parts, tmp_path)
    convert_file(parts[2], tmp_path / "p_disc_gray.safetensors", part="disc_gray")
    with pytest.raises(InputError, match="from different conversions"):
        convert_file(pattern, tmp_path / "some.pt")
    convert_file(tmp_path / "p_disc_gray.safetensors", tmp_path / "one.pt", part="disc_gray")


@pytest.mark.parametrize("command", ["inspect", "convert"])
@pytest.mark.parametrize("name", ["p_{part}.safetensors", "p_disc_gray.safetensors"])
def test_a_flipped_byte_is_found_in_a_set_and_alone(command, name, parts, tmp_path, capsys):
    pattern = _copied(parts, tmp_path)
    path = tmp_path / "p_disc_gray.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    more = [str(tmp_path / "some.pt")] if command == "convert" else []
    assert main([command, str(pattern.with_name(name)), *more]) == 2
    assert "was changed after it was converted: 1 tensors differ" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_a_full_disk_leaves_the_old_file_and_its_ledger(suffix, sources, tmp_path, capsys):
    """The limit on the size of files stands for a full disk."""
    _, (old_file, new_file) = sources
    target = tmp_path / "out" / f"x{suffix}"
    convert_file(old_file, target, "photo2cartoon")
    before, (_, most) = _digests(target.parent), resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (1000, target.stat().st_size - 1):
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        try:
            code = main(["convert", str(new_file), str(target), "--family", "photo2cartoon"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            signal.signal(signal.SIGXFSZ, ignored)
        assert code == 2
        assert f"{target.name}: cannot be written: File too large\n" in capsys.readouterr().err
        assert _digests(target.parent) == before


def test_converting_twice_gives_the_same_bytes(sources, tmp_path):
    _, (_, source) = sources
    for folder in ("a", "b"):
        for suffix in (".pt", ".ckpt", ".safetensors"):
            convert_file(source, tmp_path / folder / f"x{suffix}", "photo2cartoon")
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")


def test_permissions_stay_and_links_are_written_through(sources, tmp_path):
    _, (_, source) = sources
    target, link = tmp_path / "x.ckpt", tmp_path / "link.ckpt"
    convert_file(source, target, "photo2cartoon")
    target.chmod(0o600)
    link.symlink_to(target.name)
    target.write_bytes(b"old")
    convert_file(source, link, "photo2cartoon")
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert len(open_checkpoint(target).tensors) == len(open_source(link).tensors)


def test_names_up_to_the_systems_limit(tmp_path):
    with atomic_path(tmp_path / ("x" * 255)) as temporary:
        temporary.write_text("content")
    assert (tmp_path / ("x" * 255)).read_text() == "content"
    with pytest.raises(InputError, match="too long"), atomic_path(tmp_path / ("x" * 256)):
        pass


def test_a_second_writer_is_told(sources, tmp_path):
    _, (_, source) = sources
    with locked(tmp_path / "x.ckpt"), pytest.raises(InputError, match="another process is writing there"):
        convert_file(source, tmp_path / "x.ckpt", "photo2cartoon")
    with folder_locked(tmp_path), pytest.raises(InputError, match="another process"), folder_locked(tmp_path):
        pass
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".lock"]


def test_two_conversions_to_one_target_leave_a_file_with_its_own_ledger(sources, tmp_path):
    (old, new), files = sources
    target = tmp_path / "out" / "x.safetensors"
    code = "import sys; from toonport.cli import main; sys.stdin.readline(); sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "convert"]
    running = [
        subprocess.Popen([*command, str(file), str(target), "--family", "photo2cartoon"], stdin=subprocess.PIPE)
        for file in files
    ]
    for process in running:
        process.stdin.write(b"\n")
        process.stdin.close()
    codes = [process.wait() for process in running]
    assert set(codes) <= {0, 2}
    assert 0 in codes
    assert _holds(target, old) != _holds(target, new)
    assert sorted(path.name for path in target.parent.iterdir()) == ["x.safetensors", "x.safetensors.ledger.json"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("command", ["preprocess", "cartoonize", "train", "export"])
def test_every_command_that_writes_is_told_of_another(command, sources, tmp_path, capsys, monkeypatch):
    """The lock is held here by another descriptor, which to the system is another process."""
    monkeypatch.setattr("convert.disk.PATIENCE", 0.0)
    out, network = tmp_path / "out", save_torch(tmp_path / "net.pt", seeded_state("photo2cartoon", "genA2B"))
    write_picture(tmp_path / "photos" / "a.png", drawn_picture("a", 40, 40))
    drawing = [str(tmp_path / "photos"), "--out", str(out)]
    weights = ["--weights", str(network)]
    arguments = {
        "preprocess": [*drawing, "--keep-background"],
        "cartoonize": [*drawing, *weights, "--family", "photo2cartoon", "--frame", "whole"],
        "train": ["cyclegan", "--data", str(tmp_path), "--out", str(out)],
        "export": ["photo2cartoon", *weights, "--part", "genA2B", "--out", str(out / "x.onnx")],
    }[command]
    held = locked(out / "x.onnx") if command == "export" else folder_locked(out)
    with held:
        assert main([command, *arguments]) == 2
    assert "another process is writing there" in capsys.readouterr().err
    assert list(out.iterdir()) == []

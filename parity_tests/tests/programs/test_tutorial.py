"""Every command of docs/port_your_own.md is run, in order, in an empty folder, and prints what the page says."""

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.tests.cases import ROOT
from toonport.cli import main

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = ROOT / "docs" / "port_your_own.md"


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder; what is imported from it is forgotten afterwards."""
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _run(line):
    """Run one command, Python's and toonport's in this process; return its exit code and what it printed."""
    words = shlex.split(line, comments=True)
    if words[0] not in {"toonport", "python"}:
        done = subprocess.run(line, shell=True, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    target = words[words.index(">") + 1] if ">" in words else None
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if words[0] == "python":
            runpy.run_path(words[1])
        else:
            code = main(words[1 : words.index(">")] if target else words[1:])
    if target:
        Path(target).write_text(printed.getvalue())
    return code, printed.getvalue()


def test_the_page_does_what_it_says(empty_folder):
    printed, commands = "", 0
    for kind, text in FENCE.findall(PAGE.read_text()):
        if kind == "python":
            (empty_folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
        elif kind == "sh":
            printed = ""
            for line in text.splitlines():
                wanted = int(found[1]) if (found := re.search(r"# exit (\d)$", line)) else 0
                code, more = _run(line)
                assert code == wanted, f"{line}\n{more}"
                printed, commands = printed + more, commands + 1
        else:
            assert kind == "text"
            assert [line for line in text.splitlines() if line not in printed] == [], printed
    assert commands == 25
    first, back = (empty_folder / name for name in ("my.pt", "back.pt"))
    from convert.formats import open_checkpoint

    values = [{name: entry.read() for name, entry in open_checkpoint(path).tensors.items()} for path in (first, back)]
    assert values[0].keys() == values[1].keys()
    assert all((value == values[1][name]).all() for name, value in values[0].items())

"""What every command has in common: --json, less or more output, widths, misspelt names, what is replaced."""

import argparse
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from convert.registry import FAMILIES
from parity_tests.harness.report.console import TREE_WIDTH, row_lines, tree_lines
from parity_tests.harness.report.saved import judge_again, load_report
from parity_tests.tests.cases import ROOT, save_torch, seeded_state
from toonport.cli import COMMANDS, build_parser, main
from toonport.commands.parser import with_json_plain
from toonport.commands.ui import UNLIMITED, Output, fit, out, print_table, shown, spinner

VERSION1 = ROOT / "parity_tests" / "tests" / "harness" / "report_version1.json"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
pytestmark = pytest.mark.quick


def _commands():
    action = next(action for action in build_parser()._actions if action.dest == "command")
    return action.choices


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_torch(tmp_path_factory.mktemp("one") / "d.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})


def test_every_option_of_every_command_says_what_it_does():
    for name, command in _commands().items():
        for action in command._actions:
            text = action.help or ""
            hidden = text == argparse.SUPPRESS
            assert hidden or len(text.split()) > 1, f"{name} {action.option_strings or action.dest}"
            assert "see --settings" not in text, f"{name} {action.option_strings}"
        assert {"--json", "--quiet", "--verbose", "--log-file", "--debug"} <= set(command._option_string_actions)


def test_help_keeps_to_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name, command in _commands().items():
        long = [line for line in command.format_help().splitlines() if len(line) > 80 and " " in line.strip()]
        assert long == [], name


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        (["inspect", "--json", "a.pt"], ["inspect", "--json=-", "a.pt"]),
        (["inspect", "a.pt", "--json"], ["inspect", "a.pt", "--json=-"]),
        (["compare", "x", "--json", "r.json"], ["compare", "x", "--json", "r.json"]),
        (["list", "--json", "-"], ["list", "--json", "-"]),
        (["list", "--json=r"], ["list", "--json=r"]),
        (["list", "--json", "--quiet"], ["list", "--json=-", "--quiet"]),
        (["inspect", "--js", "a.pt", "b.pt"], ["inspect", "--json=-", "a.pt", "b.pt"]),
        (["inspect", "--j", "a.pt"], ["inspect", "--json=-", "a.pt"]),
        (["inspect", "--js=r.json", "a.pt"], ["inspect", "--js=r.json", "a.pt"]),
    ],
)
def test_a_file_after_json_is_only_what_is_called_like_one(words, plain):
    assert with_json_plain(words) == plain


@pytest.mark.parametrize("command", [["list"], ["fetch"], ["train", "ugatit", "--settings"]])
def test_json_is_printed_alone_or_written(command, tmp_path, capsys):
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main([*command, "--json", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr().out.strip()
    assert json.loads((tmp_path / "a.json").read_text()) == printed
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("-q --json /dev/stdout >> kept", 0),
        ("-q --json /dev/fd/1 >> kept", 0),
        ("-q --json /dev/fd/3 3>> kept", 0),
        ("--log-file /dev/full", 2),
        (">&-", 0),
    ],
)
def test_what_the_system_has_open_is_never_replaced_and_never_a_traceback(shell, code, tmp_path):
    (tmp_path / "kept").write_text("before\n")
    command = f"{shlex.quote(sys.executable)} -m toonport list {shell}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == (code != 0)
    kept = (tmp_path / "kept").read_text()
    assert kept.startswith("before\n")
    if "kept" in shell:
        assert json.loads(kept.removeprefix("before\n"))


def test_a_log_keeps_names_that_are_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("toonport"), "propagate", False)  # reports of tests are text
    with shown(False, False, str(tmp_path / "log")):
        logging.getLogger("toonport.said").info("\udcff.pt")
    assert "\\udcff.pt" in (tmp_path / "log").read_text()


def test_a_width_below_one_counts_as_unset(monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    assert Output(width=0).columns == UNLIMITED


def test_wide_characters_are_not_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    print_table(["name", "what"], [["漫画风格网络", "卡通"], ["a", "b"]])
    assert "漫画风格网络  卡通" in capsys.readouterr().out


def test_every_command_takes_json_to_mean_the_same():
    for name, command in _commands().items():
        action = command._option_string_actions["--json"]
        assert (action.nargs, action.const, action.default) == ("?", "-", None), name


def test_convert_and_inspect_tell_all_as_json(network, tmp_path, capsys):
    target = tmp_path / "d.ckpt"
    assert main(["convert", str(network), str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == [{"file": str(target), "bytes": target.stat().st_size, "ledger": f"{target}.ledger.json"}]
    assert told["networks"][0]["tensors"] == 27
    assert main(["inspect", "--json", str(network)]) == 0
    assert len(json.loads(capsys.readouterr().out)["tensors"]) == 27


def test_only_what_a_conversion_wrote_is_replaced_without_force(network, tmp_path, capsys):
    target = tmp_path / "d.ckpt"
    for _ in range(2):
        assert main(["convert", str(network), str(target)]) == 0
    whole = target.read_bytes()
    for content in (b"mine", whole + b"changed"):
        target.write_bytes(content)
        assert main(["convert", str(network), str(target)]) == 2
        assert "--force" in capsys.readouterr().err
        assert target.read_bytes() == content
    (tmp_path / "d.ckpt.ledger.json").write_text("no ledger")
    assert main(["convert", str(network), str(target)]) == 2
    assert main(["convert", str(network), str(target), "--force"]) == 0
    assert target.read_bytes() == whole
    (tmp_path / "p_disLA.ckpt").write_bytes(b"mine")
    assert main(["convert", str(network), str(tmp_path / "p_{part}.ckpt")]) == 2
    assert (tmp_path / "p_disLA.ckpt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["convrt"], "convert"),
        (["--versoin"], "--version"),
        (["--quiett", "list"], "--quiet"),
        (["convert", "--fmily", "ugatit", "a", "b"], "--family"),
        (["compare", "cyclegun"], "cyclegan"),
        (["compare", "photo2cartoon", "--prt", "genA2B"], "--part"),
        (["compare", "photo2cartoon", "--part", "genA2b"], "genA2B"),
        (["export", "ugatit", "--weigths", "a.pt"], "--weights"),
        (["train", "White-Box", "--settings"], "whitebox"),
        (["fetch", "vgg-19"], "vgg19"),
        (["mutants", "judge-slop"], "judge-slope"),
        (["bench", "--case", "runtim"], "runtime"),
    ],
)
def test_misspelt_names_are_answered_in_one_line_with_what_was_meant(words, meant, capsys):
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    text = capsys.readouterr().err.strip()
    assert "\n" not in text
    assert meant in text
    assert words[0] == "mutants" or "did you mean" in text


def test_quiet_and_log_file(network, tmp_path, capsys):
    log = tmp_path / "all.log"
    words = ["convert", str(network), str(tmp_path / "d.ckpt"), "--log-file", str(log)]
    assert main(["--quiet", *words]) == 0
    assert capsys.readouterr() == ("", "")
    assert "27 tensors" in log.read_text()
    assert main(["convert", str(network), str(network), "--log-file", str(log)]) == 2
    assert "same file" in log.read_text()
    assert main([*words, "--verbose"]) == 0
    assert "converting: 27 of 27" in capsys.readouterr().err
    assert main(["list", "--log-file", str(tmp_path / "no" / "a.log")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "photo2cartoon" in capsys.readouterr().out
    assert "photo2cartoon" not in log.read_text().rpartition("27 of 27")[2].partition("genA2B")[2]


def test_steps_that_only_count_are_kept_once_a_second(tmp_path):
    log = tmp_path / "all.log"
    with shown(False, False, str(log)), spinner("comparing") as say:
        for number in range(1000):
            say(f"step 1, {number} tensors")
        say("looking for the cause")
    text = log.read_text()
    assert "step 1, 0 tensors" in text
    assert text.count("\n") < 100
    assert text.endswith("looking for the cause\n")


@pytest.mark.parametrize("width", [80, 60])
def test_what_is_printed_keeps_to_the_terminal_and_cuts_no_word(width, network, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # what rich takes for a terminal
    for words in (
        ["list"],
        ["fetch"],
        ["inspect", str(network)],
        ["inspect", str(network), str(network), "--all"],
        ["mutants", "--list"],
        ["compare", str(VERSION1)],
    ):
        main(words)
        text = COLOURS.sub("", capsys.readouterr().out)
        assert [line for line in text.splitlines() if len(line.rstrip()) > width and " " in line.strip()] == [], words
    main(["list"])
    shown = set(COLOURS.sub("", capsys.readouterr().out).split())
    monkeypatch.delenv("COLUMNS")
    monkeypatch.delenv("TTY_COMPATIBLE")
    main(["list"])
    assert set(capsys.readouterr().out.split()) == shown - {"·"}


def test_pipes_get_whole_lines(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(["a", "b"], [["x" * 150, "y" * 150]])
    out.print("word " * 100)
    monkeypatch.setenv("COLUMNS", "80")  # children of programs that use readline have it
    out.print("word " * 100)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["x" * 150, "y" * 150]


def test_lines_are_wrapped_at_words_under_themselves():
    assert fit("  first: " + "word " * 10, 30).splitlines()[1].startswith("    word")
    assert fit("a" * 50, 20) == "a" * 50
    assert fit("short\nlines", 20) == "short\nlines"


def test_trees_and_rows_of_a_report_fit_narrow_terminals_and_say_as_much():
    comparison = judge_again(load_report(VERSION1))[0]
    wide, narrow = list(tree_lines(comparison)), list(tree_lines(comparison, 80))
    assert max(len(row.text) for row in narrow) <= 80
    assert [row.bad for row in wide] == [row.bad for row in narrow if "look here first" not in row.text]
    assert sum("look here first" in row.text for row in narrow) == 1
    assert list(tree_lines(comparison, TREE_WIDTH)) == wide
    (verdict, *_) = comparison.blamed
    (row,) = row_lines([verdict], 80)
    assert verdict.measurement.layer in row.text
    assert "DIFFERENT" in row.text


def test_inspect_leads_with_what_the_file_is(network, capsys):
    assert main(["inspect", str(network)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("d.pt: torch, 27 tensors")
    assert lines[1].startswith("  photo2cartoon disLA")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_options_and_families(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "c.bash"
    script.write_text(capsys.readouterr().out)
    asked = {"comp": {"compare", "completion"}, "convert --sty": {"--style"}, "train cycle": {"cyclegan"}}
    for words, wanted in asked.items():
        line = f"COMP_WORDS=(toonport {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shtab_toonport"
        code = f"cd {tmp_path}; source {script}; {line}; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == wanted
    assert main(["completion", "fish"]) == 2
    assert len(COMMANDS) > 16
    assert len(FAMILIES) > 8

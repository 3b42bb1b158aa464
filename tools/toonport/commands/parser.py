"""The parser of every command: one line for a mistake, with the name that was probably meant, and help that fits."""

import argparse
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from convert.suggest import did_you_mean
from toonport.commands.ui import STANDARD_OUTPUT, fit
from toonport.terminal import plain

INVALID_CHOICE = re.compile(r"^(?P<what>.*)invalid choice: '?(?P<name>.*?)'? \(choose from (?P<known>.*)\)$")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples, and wraps the long ones at words."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return fit("\n".join(indent + line for line in text.splitlines()), width)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and suggest what was meant."""

    def __init__(self, **more: Any):
        super().__init__(**{"formatter_class": HelpFormatter, **more})
        self._words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; the words are kept for an error."""
        self._words = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line; an option that does not exist is named before what it caused."""
        unknown = self.unknown_options()
        if unknown:
            message = f"unknown option {unknown[0]}{did_you_mean(unknown[0], self._option_string_actions)}"
        elif found := INVALID_CHOICE.match(message):
            known = [name.strip(" '\"") for name in found["known"].split(",")]
            message = f"{found['what']}unknown '{found['name']}'{did_you_mean(found['name'], known)}; "
            message += f"known: {', '.join(known)}"
        self.exit(2, plain(f"{self.prog}: {message} ({self.prog} --help)\n"))

    def unknown_options(self) -> list[str]:
        """Options among the words that this parser has not; what a word begins is taken for it, as argparse does."""
        before = list(self._words[: self._words.index("--")] if "--" in self._words else self._words)
        if any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            before = list(takewhile(lambda word: word.startswith("-"), before))  # the rest is the command's
        given = [word.partition("=")[0] for word in before if word.startswith("--")]
        return [name for name in given if not self._begins_option(name)]

    def _begins_option(self, name: str) -> bool:
        return any(option.startswith(name) for option in self._option_string_actions)


def with_json_plain(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with "--json" alone as "--json=-".

    The word after --json is its file only where it ends in .json, is "-" or lies in /dev, so that
    `toonport inspect --json my.pt` is not taken for a file to write. `--json=NAME` takes any name.
    """
    done: list[str] = []
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        is_file = following == STANDARD_OUTPUT or following.endswith(".json") or following.startswith("/dev/")
        done.append(f"--json={STANDARD_OUTPUT}" if _means_json(word) and not is_file else word)
    return done


def _means_json(word: str) -> bool:
    """Whether a word is --json, or what argparse takes for it."""
    return len(word) > len("--") and "--json".startswith(word)

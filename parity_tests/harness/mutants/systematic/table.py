"""The results of systematic mutants in words: shares with their confidence, tables, and every miss by name."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from parity_tests.harness.mutants.systematic.judging import Result
from parity_tests.harness.mutants.systematic.statistics import share

START, END = "<!-- systematic -->", "<!-- end of systematic -->"


@dataclass(frozen=True)
class Counts:
    """How many mutants ended how."""

    caught: int
    missed: int
    equivalent: int
    refused: int
    elsewhere: int
    right: int  # of the caught, blamed on the right place

    @property
    def rate(self) -> str:
        """Share of the caught among those that run and are not equivalent."""
        return share(self.caught, self.caught + self.missed)

    @property
    def blame(self) -> str:
        """Share of the caught that are blamed on the right place."""
        return share(self.right, self.caught)


def counted(results: Sequence[Result]) -> Counts:
    """Count results by their verdict."""
    ended = Counter(result.verdict for result in results)
    right = sum(result.right for result in results)
    return Counts(ended["caught"], ended["missed"], ended["equivalent"], ended["refused"], ended["elsewhere"], right)


def sort_of(result: Result) -> str:
    """Return what was mutated: "source", "graph" or "weights"."""
    return "graph" if " ONNX " in result.name else "weights" if " weights " in result.name else "source"


def grouped(results: Sequence[Result], key: Callable[[Result], str]) -> Mapping[str, list[Result]]:
    """Group results, in the order of the keys."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(key(result), []).append(result)
    return dict(sorted(found.items()))


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Yield one line of each sort of mutant: how many were run, the rate, the blame."""
    for name, own in grouped(results, sort_of).items():
        counts = counted(own)
        yield f"{name}: {len(own)} mutants; caught {counts.rate}; blamed on the right place {counts.blame}"
        yield (
            f"{name}: {counts.equivalent} equivalent, {counts.refused} do not run, {counts.elsewhere} in lines that "
            f"only other families run, {counts.missed} missed"
        )


def markdown(results: Sequence[Result], commands: Sequence[str], versions: Mapping[str, str]) -> Iterator[str]:
    """Yield the second part of docs/mutants.md; `commands`: ran the mutants, each with its seed."""
    yield START
    yield "# Mutants that no one chose"
    yield ""
    yield f"Made with MindSpore {versions['mindspore']} and PyTorch {versions['torch']} by:"
    yield ""
    yield "```bash"
    yield from commands
    yield "```"
    yield ""
    yield "Every mutant is judged by the checks of `toonport compare FAMILY --mode all`, with narrow networks at the"
    yield "smallest side that they take; the training steps are the command's own. Mutants lie in `ms_models` alone: a"
    yield "bug in the recipes of `convert/` changes both sides alike, and no comparison of the two can see it."
    yield "Mutants that do not run are left out of the rate, as are those that compute the same, and those in shared"
    yield "code that the family never runs and another family does; those in lines that no check runs count as missed."
    yield ""
    yield from (f"* {line}" for line in summary(results))
    yield ""
    for title, key in (("family", lambda result: result.family), ("operator", lambda result: result.kind)):
        yield from _table(results, title, key)
    yield from _misses(results)
    yield from _wrongly_blamed(results)
    yield END


def _table(results: Sequence[Result], title: str, key: Callable[[Result], str]) -> Iterator[str]:
    yield f"| mutated | {title} | mutants | caught | missed | equivalent | do not run | elsewhere | blamed right |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for sort, own in grouped(results, sort_of).items():
        for name, some in grouped(own, key).items():
            counts = counted(some)
            numbers = (len(some), counts.caught, counts.missed, counts.equivalent, counts.refused, counts.elsewhere)
            yield f"| {sort} | {name} | {' | '.join(map(str, numbers))} | {counts.right} |"
    yield ""


def _misses(results: Sequence[Result]) -> Iterator[str]:
    missed = [result for result in results if result.verdict == "missed"]
    yield f"## Missed: {len(missed)}"
    yield ""
    if missed:
        yield "| family | mutant | change | line | why |"
        yield "|---|---|---|---|---|"
    for result in missed:
        cells = (result.family, result.name, result.what, result.line, result.reason)
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _wrongly_blamed(results: Sequence[Result]) -> Iterator[str]:
    wrong = [result for result in results if result.verdict == "caught" and not result.right]
    yield f"## Caught, but blamed elsewhere: {len(wrong)}"
    yield ""
    if wrong:
        yield "| family | mutant | change | caught by | blamed |"
        yield "|---|---|---|---|---|"
    for result in wrong:
        cells = (result.family, result.name, result.what, result.mode, result.blamed)
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def replaced(page: str, part: Sequence[str]) -> str:
    """Return a page with its part between the marks replaced, or with the part at its end where it has none."""
    before, _, rest = page.partition(START)
    return before.rstrip() + "\n\n" + "\n".join(part) + "\n" + rest.partition(END)[2].lstrip("\n")


def kept(page: str) -> str:
    """Return the part of a page between the marks, with them, or ""."""
    _, mark, rest = page.partition(START)
    return f"\n{mark}{rest}" if mark else ""

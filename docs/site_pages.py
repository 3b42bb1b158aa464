"""Pages of the documentation site that are made from the code and from files of the project, as a hook of MkDocs.

They cannot be out of date, and are nowhere committed: `make docs` makes them, and a test reads them.
"""

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import toonport
from convert.family import Family
from convert.registry import families
from parity_tests.tolerances import BUDGETS
from toonport.cli import COMMANDS, build_parser
from toonport.exit_codes import MEANINGS
from toonport.fetch import load_manifest

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = "80"  # width of the help texts
# Pages that are files of the project, and what their links become.
COPIED = {
    "adding_a_family.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "error_budget.md": "parity_tests/README.md",
}
LINKS = {"docs/": "", "parity_tests/README.md": "error_budget.md", "CONTRIBUTING.md": "adding_a_family.md"}
FOREIGN_SCRIPT = re.compile(r'<script src="https://[^"]*"></script>')
INSERTED = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made; called by MkDocs."""
    from mkdocs.structure.files import File

    for path, text in made_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is made into a page where it says `<!-- made: NAME -->`; called by MkDocs."""
    return INSERTED.sub(lambda found: TABLES[found[1]](), markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Leave out the one script that the theme would load from elsewhere; called by MkDocs."""
    return FOREIGN_SCRIPT.sub("", output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for pages that are made of no text, such as the one for a wrong address; called by MkDocs."""
    return FOREIGN_SCRIPT.sub("", output_content)


def made_pages() -> dict[str, str]:
    """Return path below docs/ -> text, in Markdown, of every page that is made."""
    pages = {path: _copied(ROOT / source) for path, source in COPIED.items()}
    pages["families/index.md"] = "\n".join(_overview())
    pages |= {f"families/{family.name}.md": "\n".join(_family(family)) for family in families()}
    pages["reference/cli.md"] = "\n".join(_commands())
    pages["reference/api.md"] = "\n".join(_interface())
    pages["reference/exit_codes.md"] = "\n".join(_exit_codes())
    return pages


def _copied(source: Path) -> str:
    text = source.read_text()
    for old, new in LINKS.items():
        text = text.replace(f"]({old}", f"]({new}")
    return text


def _overview() -> Iterator[str]:
    yield "# Families"
    yield ""
    yield "| family | what | paper | draws | trains |"
    yield "|---|---|---|---|---|"
    for family in families():
        draws, trains = ("yes" if given else "–" for given in (family.cartoonize, family.training))
        yield f"| [{family.name}]({family.name}.md) | {family.title} | {family.paper} | {draws} | {trains} |"


def _family(family: Family) -> Iterator[str]:
    yield from (f"# {family.name}", "", f"{family.title}.", "")
    yield from (f"* paper: {family.paper}", f"* source: {family.source}", f"* licence: {family.licence}", "")
    yield from ("## Networks", "", "| part | network | released configuration |", "|---|---|---|")
    for part in family.parts:
        settings = ", ".join(f"{name}={value}" for name, value in part.kwargs.items())
        yield f"| `{part.name}` | `{part.class_name}` | {settings} |"
    yield ""
    if family.notes:
        yield from ("## What to know, and faults of the source that are mended", "")
        yield from (f"* {note}" for note in family.notes)
        yield ""
    yield from _weights(family)
    yield from _commands_for(family)
    yield from ("## Figures", "")
    yield "Planted bugs in this family's networks, files and training steps, and what caught them: see"
    yield "[mutants](../mutants.md). What a correct port differs by: see [error budget](../error_budget.md)."
    yield "Speed and memory of this family: not measured, but for what [benchmarks](../benchmarks.md) says."


def _weights(family: Family) -> Iterator[str]:
    own = [release for release in load_manifest().values() if release.family == family.name]
    yield from ("## Published weights", "")
    if not own:
        yield from ("None that `toonport fetch` knows. Files of the source system are read as they are.", "")
        return
    yield from ("| `toonport fetch` | file | part | licence | how |", "|---|---|---|---|---|")
    for release in own:
        yield f"| `{release.name}` | {release.file} | {release.part} | {release.licence} | {release.how} |"
    yield ""


def _commands_for(family: Family) -> Iterator[str]:
    yield from ("## Commands", "", "```text", f"toonport compare {family.name} --weights FILE --html report.html")
    yield f"toonport export {family.name} --weights FILE --part {family.parts[0].name}"
    if family.cartoonize:
        yield f"toonport cartoonize me.jpg --family {family.name} --weights FILE --out cartoon.png"
    if family.training:
        yield f"toonport train {family.name} --data DIR --out run"
        yield f"toonport train {family.name} --settings"
    yield from ("```", "")


def _commands() -> Iterator[str]:
    """Yield the help of every command."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        parser = build_parser()
        yield from ("# Command line", "", "```text", parser.format_help(), "```", "")
        for name in COMMANDS:
            yield from (f"## toonport {name}", "", "```text", _help_of(parser, name), "```", "")
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def _help_of(parser: Any, name: str) -> str:
    return str(next(action for action in parser._actions if action.dest == "command").choices[name].format_help())


def _interface() -> Iterator[str]:
    """Yield signature and description of everything that `import toonport` offers."""
    yield from ("# Python", "", inspect.getdoc(toonport) or "", "")
    for name in sorted(set(toonport.__all__) - {"__version__"}):
        thing = getattr(toonport, name)
        yield from (f"## toonport.{name}", "", "```python", _signature(name, thing), "```", "")
        yield from ("```text", inspect.getdoc(thing) or "", "```", "")


def _signature(name: str, thing: Any) -> str:
    words = "class " if inspect.isclass(thing) else ""
    try:
        return f"{words}{name}{inspect.signature(thing)}"
    except ValueError:
        return f"{words}{name}"


def _exit_codes() -> Iterator[str]:
    yield from ("# Exit codes", "", "Of every command.", "", "| code | meaning |", "|--:|---|")
    yield from (f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())


def _budgets() -> str:
    rows = ["| mode | × PyTorch's own error | floor, ulps | why |", "|---|--:|--:|---|"]
    rows += [f"| {mode} | {row.factor:g} | {row.floor:g} | {row.reason} |" for mode, row in BUDGETS.items()]
    return "\n".join(rows)


def _releases() -> str:
    rows = ["| name | family | part | how | licence | source |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{each.name}` | {each.family} | {each.part} | {each.how} | {each.licence} | {each.source} |"
        for each in load_manifest().values()
    ]
    return "\n".join(rows)


TABLES: Mapping[str, Any] = {"budgets": _budgets, "releases": _releases}

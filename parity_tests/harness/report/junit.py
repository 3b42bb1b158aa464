"""The report as JUnit XML: one suite per network, one case per layer and mode."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from convert.disk import atomic_path


def write_junit(path: Path, data: Mapping[str, Any]) -> None:
    """Write a report (from `report_data`) as JUnit XML."""
    root = ElementTree.Element("testsuites", name="toonport")
    for network in data["networks"]:
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in network["rows"]:
            groups.setdefault((row["words"]["layer"], row["mode"]), []).append(row)
        failed = sum(any(not row["equal"] for row in rows) for rows in groups.values())
        unsure = [key for key, rows in groups.items() if _unsure(rows)]
        counts = {"tests": len(groups), "failures": failed, "skipped": len(unsure)}
        suite = ElementTree.SubElement(root, "testsuite", {"name": network["name"], **_texts(counts)})
        properties = ElementTree.SubElement(suite, "properties")
        ElementTree.SubElement(properties, "property", name="verdict", value=network["verdict"])
        for (layer, mode), rows in groups.items():
            case = ElementTree.SubElement(suite, "testcase", classname=f"{network['name']}.{mode}", name=layer)
            for row in rows:
                if not row["equal"]:
                    ElementTree.SubElement(case, "failure", message=_message(row))
            if (layer, mode) in unsure:
                ElementTree.SubElement(case, "skipped", message="cannot tell a bug from noise, or not run")
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="unicode", xml_declaration=True)


def _texts(counts: Mapping[str, int]) -> dict[str, str]:
    return {name: str(count) for name, count in counts.items()}


def _unsure(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether none of the tensors differs, but not one was judged."""
    return all(row["equal"] and (row["blind"] or row["not_run"]) for row in rows)


def _message(row: Mapping[str, Any]) -> str:
    how = row["problem"] or f"error {row['error']:.2e}, budget {row['budget']:.2e}"
    where = row["words"].get("places")
    return f"{row['words']['tensor']} ({row['words']['probe']}): {how}{f' ({where})' if where else ''}"

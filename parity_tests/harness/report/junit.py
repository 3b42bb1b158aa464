"""The report as JUnit XML: one suite per network, one case per layer and mode."""

from collections.abc import Mapping
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
        suite = ElementTree.SubElement(
            root, "testsuite", name=network["name"], tests=str(len(groups)), failures=str(failed)
        )
        for (layer, mode), rows in groups.items():
            case = ElementTree.SubElement(suite, "testcase", classname=f"{network['name']}.{mode}", name=layer)
            for row in rows:
                if not row["equal"]:
                    ElementTree.SubElement(case, "failure", message=_message(row))
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="unicode", xml_declaration=True)


def _message(row: Mapping[str, Any]) -> str:
    how = row["problem"] or f"error {row['error']:.2e}, budget {row['budget']:.2e}"
    return f"{row['words']['tensor']} ({row['words']['probe']}): {how}"

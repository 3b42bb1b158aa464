"""The report as one HTML file that needs no network: bars per layer, sorting, filters, pictures."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path
from parity_tests.harness.report.graph import graph_cards
from parity_tests.harness.report.words import cause_lines
from parity_tests.harness.sides.base import Array


def write_html(path: Path, data: Mapping[str, Any], pictures: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Write a report page.

    Args:
        path: target.
        data: from `report_data`.
        pictures: network name -> caption -> data URI, from `difference_pictures`.
    """
    from markupsafe import Markup

    rows = [[row | row["words"] for row in network["rows"]] for network in data["networks"]]
    graphs = [[Markup(card) for card in graph_cards(network["rows"])] for network in data["networks"]]
    causes = [cause_lines(network["causes"]) for network in data["networks"]]
    rows_json = Markup(json.dumps(rows).replace("<", "\\u003c"))  # safe inside a script element
    template = Path(__file__).with_name("page.html.j2")
    write_page(path, template, data=data, pictures=pictures or {}, rows_json=rows_json, graphs=graphs, causes=causes)


def write_page(path: Path, template: Path, **facts: Any) -> None:
    """Write a page made of a template of jinja2 and the facts that it names."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(template.parent), autoescape=True)
    with atomic_path(path) as temporary:
        temporary.write_text(environment.get_template(template.name).render(**facts))


def difference_pictures(inputs: Array, reference: Array, port: Array) -> dict[str, str]:
    """Return caption -> data URI of the first input, both outputs and their difference.

    Args:
        inputs, reference, port: [N, 3, H, W] RGB in [-1, 1].
    """
    difference = np.abs(np.asarray(port, np.float64) - np.asarray(reference, np.float64))[0].max(0)  # [H, W]
    largest = float(difference.max(initial=0.0))
    scaled = difference / largest if largest else difference
    return {
        "input": _data_uri(_pixels(inputs[0])),
        "PyTorch": _data_uri(_pixels(reference[0])),
        "MindSpore": _data_uri(_pixels(port[0])),
        f"difference (white = {largest:.1e})": _data_uri(np.round(scaled * 255).astype(np.uint8)),
    }


def _pixels(image: Array) -> Array:
    """[3, H, W] in [-1, 1] RGB -> [H, W, 3] 8-bit BGR."""
    return np.clip((np.asarray(image)[::-1].transpose(1, 2, 0) + 1) * 127.5, 0, 255).round().astype(np.uint8)


def _data_uri(pixels: Array) -> str:
    import cv2

    _, png = cv2.imencode(".png", pixels)
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()

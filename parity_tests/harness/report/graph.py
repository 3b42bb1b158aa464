"""The network of a report as drawn boxes: layers in the order of computation, coloured by verdict, as SVG.

Layers that hold others are frames around them. A network of many layers is cut into cards, which the page lays out in
rows: each card is narrow enough for a phone. A report knows in which order layers run, not who feeds whom, so the
arrows follow the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

WIDTH = 232  # of a card, in pixels
ROW, GAP, PAD, TITLE = 22, 6, 7, 18  # height of a layer, space between two, of a frame's edge, of its title
MOST = 24  # layers of a card
LETTERS = 34  # that fit into a layer's box; each level of frames takes two
STATES = ("different", "cannot tell", "not run", "equal")  # the worst first


@dataclass
class Box:
    """A layer: what it is called, what became of it, and the layers that it holds."""

    path: str
    kind: str = ""
    states: set[str] = field(default_factory=set)
    inside: dict[str, Box] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Last part of the path, and the type."""
        return f"{self.path.rpartition('.')[2] or '(network)'} {self.kind}".strip()

    @property
    def state(self) -> str:
        """The worst verdict of the layer itself."""
        return next((state for state in STATES if state in self.states), "not run")

    @property
    def size(self) -> int:
        """Number of layers in it that hold no others."""
        return sum(box.size for box in self.inside.values()) or 1


def graph_cards(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cards of a network, rows of `report_data`, as SVG elements in the order of computation; or nothing."""
    root = _grown(rows)
    return [_card(box, boxes) for box, boxes in _cards(root) if boxes]


def _grown(rows: Sequence[Mapping[str, Any]]) -> Box:
    """Return the network as a tree, from what was measured of it alone or whole, weights last."""
    root = Box("")
    in_order = sorted(rows, key=lambda row: (row["mode"] == "weights", row["order"]))
    for row in in_order:
        if row["quantity"].get("phase"):
            continue  # of a training step: loss terms and phases are no layers
        box = root
        for step in filter(None, row["layer"].split(".")):
            path = f"{box.path}.{step}" if box.path else step
            box = box.inside.setdefault(step, Box(path))
        box.kind = box.kind or row["layer_type"]
        box.states.add(_state(row))
    return root


def _state(row: Mapping[str, Any]) -> str:
    if not row["equal"]:
        return "different"
    if row["not_run"]:
        return "not run"
    return "cannot tell" if row["blind"] else "equal"


def _cards(box: Box) -> Iterator[tuple[Box, list[Box]]]:
    """Cut the network into cards: what is small goes together, what is large is cut further."""
    together: list[Box] = []
    for inner in box.inside.values():
        if together and sum(each.size for each in together) + inner.size > MOST:
            yield box, together
            together = []
        if inner.size > MOST:
            yield from _cards(inner)
        else:
            together.append(inner)
    yield box, together


def _card(owner: Box, boxes: Sequence[Box]) -> str:
    height = 2 * PAD + TITLE + sum(_height(box) + GAP for box in boxes)
    svg = ElementTree.Element(
        "svg", {"class": "card", "viewBox": f"0 0 {WIDTH} {height}", "width": str(WIDTH), "height": str(height)}
    )
    _text(svg, PAD, TITLE - 4, owner.path or "network", "title", LETTERS)
    y = TITLE + PAD
    for number, box in enumerate(boxes):
        if number:
            _arrow(svg, y)
        _draw(svg, box, PAD, y, WIDTH - 2 * PAD, LETTERS)
        y += _height(box) + GAP
    return ElementTree.tostring(svg, encoding="unicode")


def _height(box: Box) -> int:
    return TITLE + PAD + sum(_height(inner) + GAP for inner in box.inside.values()) if box.inside else ROW


def _draw(parent: ElementTree.Element, box: Box, x: int, y: int, width: int, letters: int) -> None:
    link = ElementTree.SubElement(parent, "a", {"href": "#", "data-layer": box.path})
    ElementTree.SubElement(link, "title").text = f"{box.path} {box.kind}: {box.state}"
    frame = {"x": str(x), "y": str(y), "width": str(width), "height": str(_height(box)), "rx": "4"}
    ElementTree.SubElement(link, "rect", {**frame, "class": box.state.replace(" ", "-")})
    _text(link, x + 6, y + 15, box.name, "layer", letters)
    inner_y = y + TITLE + PAD // 2
    for inner in box.inside.values():
        _draw(parent, inner, x + PAD, inner_y, width - 2 * PAD, letters - 2)
        inner_y += _height(inner) + GAP


def _arrow(parent: ElementTree.Element, y: int) -> None:
    ElementTree.SubElement(parent, "path", {"d": f"M{WIDTH // 2} {y - GAP}v{GAP - 1}m-3 -3l3 3l3 -3", "class": "arrow"})


def _text(parent: ElementTree.Element, x: int, y: int, text: str, kind: str, letters: int) -> None:
    shown = text if len(text) <= letters else f"{text[: letters - 1]}…"
    ElementTree.SubElement(parent, "text", {"x": str(x), "y": str(y), "class": kind}).text = shown

"""Prints what the pairs of this folder show, all of them: `python -m parity_tests.tests.pairs.figures [WHAT ...]`."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

from convert.errors import InputError
from parity_tests.tests.convert.test_layer_rules import told_of_every_layer
from parity_tests.tests.pairs.architectures.rewritten import VARIANTS, Rewritten
from parity_tests.tests.pairs.manners import MANNERS, blamed_layer, right_port, wrong_port


def variants() -> Iterator[str]:
    """Layers that are found in rewritten ports, right ones and ones with a bug, and bugs that are blamed through it."""
    for spoilt in (False, True):
        wanted = found = wrong = blamed = 0
        for right in VARIANTS:
            port = replace(right, spoilt=spoilt)
            _, _, layers = port.built
            own = _layers(port)
            wanted += len(layers)
            found += sum(own.get(path) == other for path, other in layers.items())
            wrong += sum(path in own and own[path] != other for path, other in layers.items())
            blamed += spoilt and bool(own) and _blamed(port)
        kind, count = "with a planted bug" if spoilt else "right", len(VARIANTS)
        yield f"{count} variants, {kind}: {found} of {wanted} layers matched ({found / wanted:.1%}), {wrong} wrong"
        if spoilt:
            yield f"{count} variants: {blamed} planted bugs blamed where they are ({blamed / count:.1%})"


def _layers(port: Rewritten) -> dict[str, str]:
    try:
        return port.found.layers
    except InputError as error:
        print(f"{port.architecture.name}, {port.rule}: {error}")
        return {}


def _blamed(port: Rewritten) -> bool:
    first = next(iter(port.compared().blamed), None)
    return first is not None and first.measurement.layer in port.blamable


def manners() -> Iterator[str]:
    """Manners of writing networks of which the right port is silent and the wrong one blamed."""
    silent = sum(right_port(manner).equal for manner in MANNERS)
    blamed = sum(blamed_layer(wrong_port(manner)) in manner.blamed for manner in MANNERS)
    yield f"{len(MANNERS)} manners: {silent} right ports silent, {blamed} bugs blamed at the right layer"


def layers() -> Iterator[str]:
    """What becomes of each class of torch.nn."""
    told = told_of_every_layer()
    yield f"{len(told)} classes of torch.nn:"
    for word in ("rule", "no tensors"):
        names = [name for name, own in told.items() if own == word]
        yield f"{len(names)} {word}: {', '.join(names)}"
    yield from (f"{name}: {why}" for name, why in told.items() if why not in ("rule", "no tensors"))


FIGURES: dict[str, Callable[[], Iterator[str]]] = {"layers": layers, "manners": manners, "variants": variants}


def main() -> None:
    """Print the figures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*FIGURES, []], default=list(FIGURES))
    for what in parser.parse_args().what:
        for line in FIGURES[what]():
            print(line, flush=True)


if __name__ == "__main__":
    main()

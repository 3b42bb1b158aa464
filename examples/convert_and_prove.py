"""Convert a checkpoint, prove that the port computes the same, and convert back.

python examples/convert_and_prove.py photo2cartoon_weights.pt [FOLDER]
"""

import sys
from pathlib import Path

import toonport


def main(source: str, folder: str = "proved") -> bool:
    """Convert `source` into `folder`, compare the drawing network, and say whether it is equal."""
    out = Path(folder)
    out.mkdir(exist_ok=True)
    done = toonport.convert(source, out / "port.ckpt")
    family = done.networks[0].family
    part = family.cartoonize.part if family.cartoonize else done.networks[0].part.name
    (result,) = toonport.compare(family.name, part=part, weights=source, ported=str(out / "port.ckpt"), quick=True)
    toonport.convert(out / "port.ckpt", out / "back.pt")
    print(f"{result.name}: {result.outcome}; {len(result.verdicts)} tensors judged")
    for verdict in result.blamed[:3]:
        print(f"look at {verdict.measurement.layer}: {verdict.multiple:.3g} times its budget")
    return result.equal


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)

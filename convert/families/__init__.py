"""One file per family; FAMILIES is the registry's only list."""

from __future__ import annotations

from convert.families.cyclegan import CYCLEGAN
from convert.families.mobilefacenet import MOBILEFACENET
from convert.families.photo2cartoon import PHOTO2CARTOON
from convert.families.ugatit import UGATIT

__all__ = ["FAMILIES"]

FAMILIES = (PHOTO2CARTOON, UGATIT, MOBILEFACENET, CYCLEGAN)

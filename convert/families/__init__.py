"""One file per family; FAMILIES is the registry's only list."""

from __future__ import annotations

from convert.families.cyclegan import CYCLEGAN
from convert.families.dtn import DTN
from convert.families.mobilefacenet import MOBILEFACENET
from convert.families.photo2cartoon import PHOTO2CARTOON
from convert.families.sagan_cyclegan import SAGAN_CYCLEGAN
from convert.families.ugatit import UGATIT
from convert.families.whitebox import FACIALCARTOONIZATION, VGG19, WHITEBOX

__all__ = ["FAMILIES"]

FAMILIES = (PHOTO2CARTOON, UGATIT, MOBILEFACENET, CYCLEGAN, SAGAN_CYCLEGAN, DTN, WHITEBOX, FACIALCARTOONIZATION, VGG19)

"""The registry: every family of networks that Toonport knows, as one literal tuple."""

from convert.errors import InputError
from convert.families.cyclegan import CYCLEGAN
from convert.families.dtn import DTN
from convert.families.mobilefacenet import MOBILEFACENET
from convert.families.photo2cartoon import PHOTO2CARTOON
from convert.families.sagan_cyclegan import SAGAN_CYCLEGAN
from convert.families.ugatit import UGATIT
from convert.families.whitebox import FACIALCARTOONIZATION, VGG19, WHITEBOX
from convert.family import Family, Part
from convert.suggest import did_you_mean

FAMILIES = (PHOTO2CARTOON, UGATIT, MOBILEFACENET, CYCLEGAN, SAGAN_CYCLEGAN, DTN, WHITEBOX, FACIALCARTOONIZATION, VGG19)


def families() -> tuple[Family, ...]:
    """Return every family, in the order in which they are offered to the user."""
    return FAMILIES


def family_named(name: str) -> Family:
    """Return the family called `name`. Raises InputError: lists the names there are."""
    for family in families():
        if family.name == name:
            return family
    known = [family.name for family in families()]
    raise InputError(f"unknown family '{name}'{did_you_mean(name, known)}; known families: {', '.join(known)}")


def part_named(family: Family, name: str) -> Part:
    """Return the part of `family` called `name`. Raises InputError: lists the names there are."""
    for part in family.parts:
        if part.name == name:
            return part
    known = [part.name for part in family.parts]
    raise InputError(f"{family.name} has no part '{name}'{did_you_mean(name, known)}; its parts: {', '.join(known)}")

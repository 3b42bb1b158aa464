"""One evaluation: the networks that are there, the vectors they make of the pictures, and the numbers that follow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from convert.devices import CPU
from convert.errors import InputError
from convert.tensors import Array
from toonport.evaluate import face_id, perceptual
from toonport.evaluate.distances import BLOCK, SMALLEST, SUBSET_SIZE, Kernel, frechet, kernel, kernel_definition
from toonport.evaluate.features import Features, find_weights, open_face, open_inception, open_vgg
from toonport.evaluate.pictures import Pair
from torch_ref.environment import device_beside, place_of

BATCH = 8
TIMES = 100  # what kernel distances are multiplied by, as papers print them
FRECHET = (
    "squared distance of the means plus trace of C1 + C2 - 2 (C1 C2)^(1/2), C1 and C2 the unbiased covariances; "
    "generated against real cartoons"
)


@dataclass(frozen=True)
class Metric:
    """One number."""

    key: str  # short name for options and files, e.g. "kid".
    name: str  # what it is; FID and KID are called so only with the features they are defined with
    value: float  # as printed
    spread: float | None  # what its definition says, None where there is none
    times: int  # by what the computed value was multiplied
    better: str  # "lower" or "higher"
    features: str  # what it is measured in
    counts: Mapping[str, int]  # how many pictures of each kind, or pairs, went into it
    definition: str  # how it is computed


@dataclass(frozen=True)
class NotRun:
    """Numbers that are not there, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Networks:
    """What is there to measure with."""

    features: tuple[Features, ...]  # networks that distances are measured in
    # face, vgg: those among them that also compare a cartoon with its photo
    face: Features | None
    vgg: Features | None
    missing: tuple[NotRun, ...]  # what cannot be measured without weights

    def facts(self) -> list[dict[str, str]]:
        """Name, file and hash of each network, for the record."""
        return [{"name": network.name, "file": str(network.path), "sha256": network.sha256, "how": network.how}
                for network in self.features]  # fmt: skip


@dataclass
class Looked:
    """What the networks made of a set of pictures."""

    count: int  # pictures
    vectors: dict[str, Array]  # features' key -> [count, D]
    # similar, distant: Face-ID similarity and perceptual distance of each pair, empty without photos
    similar: list[float] = field(default_factory=list)
    distant: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one set of cartoons."""

    metrics: tuple[Metric, ...]
    not_run: tuple[NotRun, ...]
    warnings: tuple[str, ...]

    def by(self, key: str) -> Metric | None:
        """The metric of a short name."""
        return next((metric for metric in self.metrics if metric.key == key), None)


def open_networks(inception: str | None, face: str | None, vgg: str | None, device: str = CPU) -> Networks:
    """Load the networks given, and those that `toonport fetch` stored.

    Args:
        inception, face, vgg: weight files, or None for the fetched ones.
        device: one of DEVICES; beside cartoons that are drawn on Ascend, the networks run on the CPU.

    Raises InputError: a file or device that cannot be used, or nothing at all to measure with.
    """
    place = place_of(device_beside(device))
    given = {"inception": inception, "vgg": vgg, "face": face}
    openers: dict[str, Callable[..., Features]] = {"inception": open_inception, "vgg": open_vgg, "face": open_face}
    paths = {kind: find_weights(kind, file) for kind, file in given.items()}
    found = {kind: openers[kind](path, place) for kind, path in paths.items() if path}
    if not found:
        raise InputError(
            "nothing to measure with: toonport fetch inception, or give --inception-weights, --face-weights or "
            "--vgg-weights"
        )
    return Networks(tuple(found.values()), found.get("face"), found.get("vgg"), tuple(_missing(found)))


def _missing(found: Mapping[str, Features]) -> Iterator[NotRun]:
    """Say what cannot be measured with the networks that were found."""
    inception = found.get("inception")
    if inception is None:
        yield NotRun("FID, KID", "no Inception weights: toonport fetch inception, or --inception-weights FILE")
    elif not inception.standard:
        begin = f"its sha256 begins with {inception.sha256[:8]}"
        yield NotRun("FID, KID", f"{inception.path} is not the published Inception file, {begin}")
    if "face" not in found:
        where = "toonport fetch mobilefacenet says where to get them"
        yield NotRun(face_id.NAME, f"no MobileFaceNet weights: --face-weights FILE; {where}")
    if "vgg" not in found:
        yield NotRun(perceptual.NAME, "no VGG19 weights: toonport fetch vgg19, or --vgg-weights FILE")


def look(pairs: Sequence[Pair], networks: Networks) -> Looked:
    """Run the networks over a batch of pictures, each with its photo or None.

    Raises InputError: a network returns numbers that are not finite.
    """
    cartoons, photos = [cartoon for _, cartoon in pairs], [photo for photo, _ in pairs if photo is not None]
    looked = Looked(len(pairs), {features.key: features.run(cartoons) for features in networks.features if pairs})
    if photos and networks.face:
        looked.similar += face_id.similarities(networks.face.run(photos), looked.vectors[networks.face.key])
    if photos and networks.vgg:
        looked.distant += perceptual.perceptual_distances(networks.vgg, photos, cartoons)
    for features in networks.features:
        if not np.isfinite(looked.vectors.get(features.key, 0)).all():
            raise InputError(f"{features.path}: {features.name} returns numbers that are not finite; check its weights")
    return looked


def joined(parts: Sequence[Looked]) -> Looked:
    """Return what networks made of several batches as that of one set."""
    seen = [part for part in parts if part.count]
    keys = seen[0].vectors if seen else ()
    return Looked(
        sum(part.count for part in seen),
        {key: np.concatenate([part.vectors[key] for part in seen]) for key in keys},
        [value for part in seen for value in part.similar],
        [value for part in seen for value in part.distant],
    )


def evaluate(real: Looked, fake: Looked, networks: Networks, protocol: str, seed: int) -> Evaluation:
    """Return every number that can be had of generated cartoons, real cartoons and, in pairs, photos.

    Of `protocol` see `toonport.evaluate.distances.kernel`; `seed` is of the kernel distance.
    """
    metrics: list[Metric] = []
    not_run, warnings = list(networks.missing), []
    counts = {"real": real.count, "generated": fake.count}
    blocks = -(-max(counts.values()) // BLOCK) if protocol == "ugatit" else 1
    for features in networks.features:
        if reason := _too_few(counts, SMALLEST):
            not_run.append(NotRun(f"distances (features {features.name})", reason))
            continue
        sets = real.vectors[features.key], fake.vectors[features.key]
        if reason := _too_few(counts, SMALLEST * blocks):
            not_run.append(NotRun(_names(features)[0], f"{reason} in blocks of {BLOCK}"))
        else:
            found = kernel(*sets, protocol, seed)
            metrics.append(_kernel(features, found, counts, protocol))
            warnings += _subset_warning(features, found, counts, protocol)
        key = "fid" if features.standard else f"frechet-{features.key}"
        name, value = _names(features)[1], frechet(*sets)
        metrics.append(Metric(key, name, value, None, 1, "lower", features.name, counts, FRECHET))
        warnings += _rank_warning(features, *counts.values())
    unpaired = []
    for key, name, values, better, definition, network in (
        ("face-id", face_id.NAME, fake.similar, "higher", face_id.DEFINITION, networks.face),
        ("perceptual", perceptual.NAME, fake.distant, "lower", perceptual.DEFINITION, networks.vgg),
    ):
        if network and values:
            metrics.append(_of_pairs(key, name, values, better, network, definition))
        elif network:
            unpaired.append(name)
    if unpaired:
        not_run.append(NotRun(", ".join(unpaired), "no photos to compare with: --photos DIR"))
    return Evaluation(tuple(metrics), tuple(not_run), tuple(warnings))


def _too_few(counts: Mapping[str, int], needed: int) -> str:
    said = " and ".join(f"{count} {what}" for what, count in counts.items())
    return f"{said} pictures, at least {needed} of each are needed" if min(counts.values()) < needed else ""


def _names(features: Features) -> tuple[str, str]:
    """Names of the kernel and the Fréchet distance in some features."""
    if features.standard:
        return "KID", "FID"
    return f"kernel distance (features {features.name})", f"Fréchet distance (features {features.name})"


def _kernel(features: Features, found: Kernel, counts: Mapping[str, int], protocol: str) -> Metric:
    key, name = "kid" if features.standard else f"kernel-{features.key}", f"{_names(features)[0]} ×100, {protocol}"
    spread = None if found.spread is None else TIMES * found.spread
    definition = kernel_definition(found, protocol)
    return Metric(key, name, TIMES * found.value, spread, TIMES, "lower", features.name, counts, definition)


def _subset_warning(features: Features, found: Kernel, counts: Mapping[str, int], protocol: str) -> list[str]:
    """Say that a spread means nothing where every subset is the whole of both sets."""
    if protocol != "standard" or set(counts.values()) != {found.size}:
        return []
    return [
        f"{_names(features)[0]}: each subset of {found.size} pictures is the whole set, so ± says nothing about how "
        f"sure the value is; sets of more than {SUBSET_SIZE} pictures, or --kid ugatit, give a spread"
    ]


def _rank_warning(features: Features, real: int, fake: int) -> list[str]:
    if min(real, fake) > features.dimension:
        return []
    return [
        f"{_names(features)[1]}: {features.dimension} numbers a picture, {real} real and {fake} generated pictures: "
        f"the covariances have rank {min(real - 1, features.dimension)} and {min(fake - 1, features.dimension)} of "
        f"{features.dimension}, so the value is too large; compare it only with values from as many pictures"
    ]


def _of_pairs(key: str, name: str, values: list[float], better: str, network: Features, definition: str) -> Metric:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    definition = f"{definition}; ± standard deviation over the pairs"
    return Metric(
        key, name, float(np.mean(values)), spread, 1, better, network.name, {"pairs": len(values)}, definition
    )

"""The row of MOSES for one sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from chemscale.use.quality.describe import PROPERTIES, Described, describe
from chemscale.use.quality.frechet import activations, distance
from chemscale.use.quality.reference import Against, Reference
from chemscale.use.quality.similarity import internal_diversity, nearest_similarity

PROTOCOL = 30_000  # strings that the published figures are of (Polykovskiy et al. 2020)
UNIQUE_AT = (1_000, 10_000)


@dataclass(frozen=True)
class SetScores:
    """A sample against one set of molecules; None where the sample or the set is too small.

    Attributes:
        name: of the set.
        molecules: how many it has.
        fcd: Fréchet ChemNet distance; falls with the number of sampled molecules, so compare equal numbers.
        snn: mean Tanimoto similarity to the nearest molecule of the set.
        fragments, scaffolds: cosine of the counts of BRICS fragments and of Bemis-Murcko scaffolds.
    """

    name: str
    molecules: int
    fcd: float | None
    snn: float | None
    fragments: float | None
    scaffolds: float | None


@dataclass(frozen=True)
class Scores:
    """The metrics of MOSES (Polykovskiy et al. 2020, "Metrics"); None where there is nothing to measure.

    Attributes:
        strings: that were sampled.
        molecules: of them that RDKit reads.
        validity: share of molecules.
        unique_at: for each k, share of different molecules among the first k; None with fewer than k.
        unique: share of different molecules among all.
        novelty: share of the different molecules that training lacks.
        diversity_1, diversity_2: internal diversity for p = 1 and 2.
        filters: share that passes the medicinal-chemistry filters.
        distances: Wasserstein-1 distances of logP, SA, QED and weight (g/mol) to the first set of the reference.
        sets: the sample against each set of the reference.
    """

    strings: int
    molecules: int
    validity: float | None
    unique_at: dict[int, float | None]
    unique: float | None
    novelty: float | None
    diversity_1: float | None
    diversity_2: float | None
    filters: float | None
    distances: dict[str, float | None]
    sets: tuple[SetScores, ...]


def score(
    smiles: Sequence[str],
    against: Reference,
    *,
    processes: int | None = None,
    progress: bool | None = None,
    device: str = "cpu",
) -> Scores:
    """Measure sampled strings, molecules or not, in the order in which they were sampled.

    Args:
        processes: that read molecules; None is one per processor.
        device: of ChemNet.

    Raises:
        ValueError: there is no string.
    """
    if not len(smiles):
        raise ValueError("there is no string to evaluate; give a file with at least one.")
    found = describe(
        smiles, filters=against.filters, processes=processes, progress=progress, label="reading the sample"
    )
    different, number = set(found.smiles), len(found.smiles)
    chemnet = activations(found.smiles, device=device, progress=progress)
    diversity = internal_diversity(found.fingerprints) if number else (None, None)
    return Scores(
        strings=found.strings,
        molecules=number,
        validity=_share(number, found.strings),
        unique_at={k: _share(len(set(found.smiles[:k])), k) if number >= k else None for k in UNIQUE_AT},
        unique=_share(len(different), number),
        novelty=None if against.known is None else _share(len(different - against.known), len(different)),
        diversity_1=diversity[0],
        diversity_2=diversity[1],
        filters=None if found.passing is None else _share(found.passing, number),
        distances=_distances(found, against.sets[0]),
        sets=tuple(
            SetScores(
                name=one.name,
                molecules=one.molecules,
                fcd=distance(one.chemnet, chemnet) if one.chemnet and chemnet else None,
                snn=nearest_similarity(found.fingerprints, one.fingerprints) if number else None,
                fragments=cosine(one.fragments, found.fragments),
                scaffolds=cosine(one.scaffolds, found.scaffolds),
            )
            for one in against.sets
        ),
    )


def cosine(a: Counter[str], b: Counter[str]) -> float | None:
    """Cosine of two vectors of counts; None where one has none."""
    if not a or not b:
        return None
    shared = sum(count * b[key] for key, count in a.items() if key in b)
    return shared / math.sqrt(sum(c * c for c in a.values()) * sum(c * c for c in b.values()))


def _distances(found: Described, against: Against) -> dict[str, float | None]:
    if not len(found.properties):
        return dict.fromkeys(PROPERTIES)
    pairs = zip(PROPERTIES, found.properties.T, against.properties.T, strict=True)
    return {name: float(wasserstein_distance(np.asarray(a), np.asarray(b))) for name, a, b in pairs}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

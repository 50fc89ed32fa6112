"""Errors of a potential on labelled structures, per subset, with bootstrap intervals over groups.

Shapes: structures, groups, draws. A quantity without a label is left out of the errors that need it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chemscale.use.atoms import Answering, electrons_of
from chemscale.use.labelled import Labelled
from chemscale.values import require

ERRORS = {  # name -> unit
    "energy_mae": "eV/atom", "energy_rmse": "eV/atom", "total_mae": "eV", "total_rmse": "eV",
    "force_mae": "eV/angstrom", "force_rmse": "eV/angstrom",
}  # fmt: skip
ALL = "all"
MOST_DRAWS = 10**6  # intervals move by a thousandth of their width between as many
DRAWS_AT_A_TIME = 2**22  # weights of groups that are held at once


@dataclass(frozen=True)
class Estimated:
    """An error with its interval, which is None with fewer than two groups."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SubsetErrors:
    """Errors on one subset.

    Attributes:
        errors: each of `ERRORS`, or None where no structure has the label.
        energies, forces: structures that have each label.
    """

    name: str
    structures: int
    atoms: int
    groups: int
    energies: int
    forces: int
    errors: Mapping[str, Estimated | None]


@dataclass(frozen=True)
class Measured:
    """What a potential says of labelled structures.

    Attributes:
        energy: (structures,), eV, with reference energies.
        forces: of each structure (atoms, 3), eV/angstrom.
        reference: (structures,), eV, the reference energies of the atoms.
        subsets: errors of all structures, then of each subset where there are several.
    """

    labelled: Labelled
    energy: NDArray[np.float64]
    forces: list[NDArray[np.float64]]
    reference: NDArray[np.float64]
    subsets: tuple[SubsetErrors, ...]


def measure(
    answering: Answering, labelled: Labelled, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Measured:
    """Errors of energies and forces over all structures and each subset.

    Structures with elements that the potential does not know are left out, and counted.

    Args:
        draws: bootstrap draws of groups with replacement, of which the percentiles are the interval; 0 for none.

    Raises:
        ValueError: no structure is left, or `draws` or `level` is out of range.
    """
    require(0 <= draws <= MOST_DRAWS, "bootstrap", draws, f"a number of draws from 0 to {MOST_DRAWS:,}")
    require(0 < level < 1, "level", level, "between 0 and 1")
    labelled = _known(answering, labelled)
    electrons = [electrons_of(atoms) for atoms in labelled.structures]
    found = dict(answering.stream(labelled.structures, electrons))
    energy = np.array([found[k].energy for k in range(len(found))])
    forces = [found[k].forces for k in range(len(found))]
    sums = _sums(labelled, energy, forces)
    names = sorted(set(labelled.subsets.tolist()))
    parts = [(ALL, np.full(len(energy), True))]
    parts += [(name, labelled.subsets == name) for name in names] if len(names) > 1 else []
    told = tuple(_subset(name, labelled, sums, here, draws, level, seed) for name, here in parts)
    return Measured(labelled, energy, forces, answering.reference(labelled.structures), told)


def _known(answering: Answering, labelled: Labelled) -> Labelled:
    left_out, kept = Counter(labelled.left_out), []
    for k, atoms in enumerate(labelled.structures):
        if strange := answering.strangers(atoms.numbers):
            left_out[f"not trained on {', '.join(strange)}"] += 1
        else:
            kept.append(k)
    if not kept:
        answering.check(labelled.structures[0].numbers)
    return replace(
        labelled,
        structures=[labelled.structures[k] for k in kept],
        energy=labelled.energy[kept],
        forces=[labelled.forces[k] for k in kept],
        groups=labelled.groups[kept],
        subsets=labelled.subsets[kept],
        left_out=left_out,
    )


def _sums(labelled: Labelled, energy: NDArray[np.float64], forces: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(structures, 8): sums of absolute and squared errors, and how many, of energies per atom, totals, components."""
    atoms = np.array([len(one) for one in labelled.structures])
    missed = energy - labelled.energy
    has = np.isfinite(missed)
    missed = np.where(has, missed, 0.0)
    slopes = [(one - other)[np.isfinite(other)] for one, other in zip(forces, labelled.forces, strict=True)]
    each = missed / atoms
    columns = [
        np.abs(each), each**2, np.abs(missed), missed**2, has,
        [np.abs(d).sum() for d in slopes], [np.square(d).sum() for d in slopes], [d.size for d in slopes],
    ]  # fmt: skip
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _subset(
    name: str,
    labelled: Labelled,
    sums: NDArray[np.float64],
    here: NDArray[np.bool_],
    draws: int,
    level: float,
    seed: int,
) -> SubsetErrors:
    _, group = np.unique(labelled.groups[here], return_inverse=True)
    of_groups = np.zeros((group.max() + 1, sums.shape[1]))
    np.add.at(of_groups, group, sums[here])
    value = _errors(of_groups.sum(axis=0, keepdims=True))[0]
    low, high = _interval(of_groups, draws, level, seed)
    errors = {
        error: None if np.isnan(value[k]) else Estimated(float(value[k]), _finite(low[k]), _finite(high[k]))
        for k, error in enumerate(ERRORS)
    }
    atoms = sum(len(one) for one, inside in zip(labelled.structures, here, strict=True) if inside)
    return SubsetErrors(
        name, int(here.sum()), atoms, len(of_groups), int(sums[here, 4].sum()), int((sums[here, 7] > 0).sum()), errors
    )


def _errors(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws, 8) -> (draws, 6): the columns of `ERRORS`; NaN where nothing has the label."""
    energies, components = (np.where(sums[:, k] > 0, sums[:, k], np.nan) for k in (4, 7))
    means = [*(sums[:, k] / energies for k in range(4)), *(sums[:, k] / components for k in (5, 6))]
    return np.stack([np.sqrt(mean) if k % 2 else mean for k, mean in enumerate(means)], axis=1)


def _interval(of_groups: NDArray[np.float64], draws: int, level: float, seed: int) -> NDArray[np.float64]:
    """(2, 6): percentiles over draws of as many groups with replacement (Efron 1979)."""
    if len(of_groups) < 2 or not draws:
        return np.full((2, len(ERRORS)), np.nan)
    drawn = np.concatenate([_errors(weights @ of_groups) for weights in _weights(len(of_groups), draws, seed)])
    tails = [100 * (1 - level) / 2, 100 * (1 + level) / 2]
    labelled = np.isfinite(drawn).any(axis=0)
    found = np.full((2, len(ERRORS)), np.nan)
    found[:, labelled] = np.nanpercentile(drawn[:, labelled], tails, axis=0)
    return found


def _weights(groups: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each group is drawn: (some draws, groups) at a time."""
    random = np.random.default_rng(seed)
    some = max(1, DRAWS_AT_A_TIME // groups)
    for start in range(0, draws, some):
        yield random.multinomial(groups, np.full(groups, 1 / groups), size=min(some, draws - start)).astype(np.float64)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def points(labels: Sequence[float], answers: Sequence[float], most: int) -> tuple[tuple[float, float], ...]:
    """(label, answer) where there is a label; at most so many, evenly drawn, the same ones every time."""
    pairs = np.stack([np.asarray(labels), np.asarray(answers)], axis=1)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) > most:
        pairs = pairs[np.sort(np.random.default_rng(0).choice(len(pairs), most, replace=False))]
    return tuple((float(x), float(y)) for x, y in pairs)


def table_of(measured: Measured) -> pa.Table:
    """A row for each structure: subset, group, atoms, labels and answers of its energy, its force errors."""
    labelled = measured.labelled
    missed = [(one - other)[np.isfinite(other)] for one, other in zip(measured.forces, labelled.forces, strict=True)]
    columns = {
        "structure": np.arange(len(measured.energy)),
        "subset": labelled.subsets,
        "group": labelled.groups,
        "atoms": [len(one) for one in labelled.structures],
        "energy_label": labelled.energy,
        "energy": measured.energy,
        "force_mae": [np.abs(d).mean() if d.size else np.nan for d in missed],
        "force_rmse": [np.sqrt(np.square(d).mean()) if d.size else np.nan for d in missed],
    }
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})  # NaN is null

"""The first look at two groups of runs: log ratio of their losses, run by run at the same subset and seed.

What both runs share (the subset, the seed, the test set, noise of all three) cancels in the ratio. Where both losses
are pure powers, log(L_g / L_ref) = log(A_g / A_ref) - (alpha_g - alpha_ref) log D: its slope against log D is minus a
difference of exponents, its level a ratio of amplitudes. Near a floor the slope compares how fast the whole losses
fall, floor included, and may have the other sign than the difference of exponents: the joint law tells them apart.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.doubt.regression import least_squares
from chemscale.laws.tables.columns import Columns, positive

SAME_SIZE = 0.05  # decades (12 %) within which parameter counts of two architectures are one size
MOST_NEAR = 64  # runs of the other group that are tried for each run of one
KEYS = ("seed", "subset_key")  # what else a pair must agree in, where the table has it


@dataclass(frozen=True)
class Paired:
    """Pairs of one group and the reference.

    matched: columns in which the runs of a pair agree; pairs: their number; clusters: subsets among them, the unit of
    the error; ratio: geometric mean of loss over the reference's loss with its interval; slopes: axis -> slope of the
    log ratio against the log of the axis as {"value", "low", "high"} (ends None where no noise can be measured);
    points: what to draw, {axis..., "ratio"} each; words: how the runs were matched, or why none is paired.
    """

    group: str
    reference: str
    matched: tuple[str, ...]
    pairs: int
    clusters: int
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    slopes: dict[str, dict[str, float | None]]
    points: tuple[dict[str, float], ...]
    words: str
    level: float


def paired(
    group: str, own: Columns, reference: str, other: Columns, roles: dict[str, str], loss: str, level: float
) -> Paired:
    """Pair the runs of two groups; roles maps params and data (or one of them) to columns.

    Sizes of two architectures seldom agree: counts within `SAME_SIZE` are matched one to one, and where none is, the
    best size of each at the same subset and seed is taken.
    """
    exact = [role for role in roles if role != "params"]
    keys = [roles[role] for role in exact] + [key for key in KEYS if key in own and key in other]
    if not exact and "params" in roles:
        keys, exact = [roles["params"], *keys], ["params"]
    first, second = _cells(own, keys, roles, loss), _cells(other, keys, roles, loss)
    common = [cell for cell in first if cell in second]
    sized = "params" in roles and "params" not in exact
    found = [pair for cell in common for pair in _same_size(first[cell], second[cell])] if sized else []
    words = f"runs of the same {', '.join(keys)}" + (f" and {roles['params']} (within 12 %)" if sized else "")
    axes = ("params", *exact) if sized else tuple(exact)
    if sized and not found:
        words = f"no sizes agree: the best {roles['params']} of each at the same {', '.join(keys)}"
        axes = tuple(exact)
    if not found:
        found = [(_lowest(first[cell]), _lowest(second[cell])) for cell in common]
    if not found:
        none = f"nothing is paired: no runs of {group} and {reference} agree in {', '.join(keys)}"
        return Paired(group, reference, tuple(keys), 0, 0, None, None, {}, (), none, level)
    return _read(group, reference, found, axes, tuple(keys), words, level)


def _cells(columns: Columns, keys: list[str], roles: dict[str, str], loss: str) -> dict[Any, list[dict[str, Any]]]:
    """Runs by what they must agree in; repeats of one point stay apart."""
    axes = {role: positive(columns, name, role) for role, name in roles.items()}
    losses = positive(columns, loss, "loss")
    clusters = columns.get("cluster", [None] * len(losses))
    out: dict[Any, list[dict[str, Any]]] = {}
    subset = [key for key in keys if key != "seed"]
    for i, value in enumerate(losses):
        cell = tuple(_value(columns[key][i]) for key in keys)
        shared = clusters[i] if clusters[i] is not None else tuple(_value(columns[key][i]) for key in subset)
        run = {**{role: float(values[i]) for role, values in axes.items()}, "loss": float(value), "cluster": shared}
        out.setdefault(cell, []).append(run)
    return out


def _value(cell: Any) -> Any:
    """A cell as something to compare: a number whether it was read as text or not."""
    try:
        return float(f"{float(cell):.9g}")
    except (TypeError, ValueError):
        return cell


def _lowest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return min(runs, key=lambda run: run["loss"])


def _same_size(own: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs whose sizes agree, nearest first, each run used once."""
    sizes = [[(float(np.log10(run["params"])), i) for i, run in enumerate(runs)] for runs in (own, other)]
    gaps = _near(sorted(sizes[0]), sorted(sizes[1]))
    left, right, out = set(range(len(own))), set(range(len(other))), []
    for _, i, j in sorted(gaps):
        if i in left and j in right:
            left.discard(i)
            right.discard(j)
            out.append((own[i], other[j]))
    return out


def _near(own: list[tuple[float, int]], other: list[tuple[float, int]]) -> list[tuple[float, int, int]]:
    """(gap, i, j) of sizes (log10, position), both sorted, that lie within `SAME_SIZE` of each other.

    Of a cell with many runs of one size only the nearest `MOST_NEAR` are offered to each, so that the list stays short.
    """
    values = np.array([size for size, _ in other])
    out = []
    for rank, (size, i) in enumerate(own):
        low, high = np.searchsorted(values, [size - SAME_SIZE - 1e-12, size + SAME_SIZE + 1e-12])
        if high - low > MOST_NEAR:  # as far into the other's run of sizes as this one is into its own
            first = rank - bisect_left(own, (size - SAME_SIZE, -1))
            low = int(np.clip(low + first - MOST_NEAR // 2, low, high - MOST_NEAR))
            high = low + MOST_NEAR
        near = [(abs(size - other[k][0]), i, other[k][1]) for k in range(low, high)]
        out += [pair for pair in near if pair[0] <= SAME_SIZE]
    return out


def _read(
    group: str, reference: str, found: list[Any], axes: tuple[str, ...], keys: tuple[str, ...], words: str, level: float
) -> Paired:
    gaps = np.log([a["loss"] / b["loss"] for a, b in found])
    logs = np.array([[0.5 * np.log(a[role] * b[role]) for role in axes] for a, b in found])
    labels = [a["cluster"] for a, _ in found]
    number = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    clusters = np.array([number[label] for label in labels])
    varying = [k for k in range(len(axes)) if np.ptp(logs[:, k]) > 1e-6]
    design = np.column_stack([np.ones(len(gaps)), logs[:, varying] - logs[:, varying].mean(0)])
    points = tuple(
        {**dict(zip(axes, np.exp(at).tolist(), strict=True)), "ratio": float(np.exp(gap))}
        for at, gap in zip(logs, gaps, strict=True)
    )
    if np.linalg.matrix_rank(design) < design.shape[1]:
        varying, design = [], design[:, :1]
        words += "; their axes move together, so no slope is read"
    line = least_squares(design, gaps, clusters)
    level_ends = line.interval(0, level)
    slopes: dict[str, dict[str, float | None]] = {}
    for k, column in enumerate(varying, start=1):
        ends = line.interval(k, level)
        slopes[axes[column]] = {
            "value": float(line.values[k]), "low": ends[0] if ends else None, "high": ends[1] if ends else None,
        }  # fmt: skip
    return Paired(
        group, reference, keys, len(gaps), len(number), float(np.exp(line.values[0])),
        (float(np.exp(level_ends[0])), float(np.exp(level_ends[1]))) if level_ends else None, slopes, points, words,
        level,
    )  # fmt: skip

"""Variable projection: given exponents, the amplitudes solve a small non-negative least-squares problem.

Every mesh point of exponents is solved in one batch; Golub and Pereyra 1973 is the idea, reweighting makes it robust.
"""

from __future__ import annotations

from itertools import product
from typing import Protocol

import numpy as np

from chemscale.laws.objectives import Array

MESH = {1: 40, 2: 16, 3: 8}  # points per exponent, by number of exponents
START_ROWS = 100  # rows that starts look at; the polish sees all
REWEIGHTS = 3
RIDGE = 1e-13  # share of a system's trace that is added to its diagonal
TINIEST = 1e-300


class Powers(Protocol):
    """What projection needs of a bound form."""

    terms: int

    def powers(self, theta: Array) -> Array:
        """Features of each amplitude, (B, n, terms)."""
        ...

    def rows(self, kept: np.ndarray) -> Powers:
        """The same at some of the runs."""
        ...


def mesh(exponents: int, low: float = 0.02, high: float = 3.0) -> Array:
    """All combinations of log-spaced exponents, (points, exponents)."""
    line = np.geomspace(low, high, MESH.get(exponents, 6))
    return np.array(list(product(line, repeat=exponents)))


def spread_evenly(count: int, dimensions: int) -> Array:
    """Points of the unit cube without clumps or rows, (count, dimensions).

    Multiples of powers of the generalised golden ratio, g^(d + 1) = g + 1, modulo one (Roberts 2018): a mesh of five
    dimensions would have three values of each.
    """
    golden = 2.0
    for _ in range(50):
        golden = (1 + golden) ** (1 / (dimensions + 1))
    return (0.5 + np.outer(np.arange(1, count + 1), golden ** -np.arange(1.0, dimensions + 1))) % 1


def solve_nonnegative(gram: Array, right: Array) -> Array:
    """Minimise a.gram.a/2 - right.a over a >= 0 exactly: the plain minimum, or the best of every set of positive ones.

    gram (B, k, k), right (B, k) -> (B, k). Few terms (k <= 4) make 2^k - 2 small solves the fastest exact way.
    """
    ridge = RIDGE * np.einsum("bkk->b", gram)[:, None, None] * np.eye(right.shape[1])
    found = _eliminated(gram + ridge, right)
    outside = ~(found >= 0).all(1)  # the others cannot be bettered
    if outside.any():
        found[outside] = _best_set(gram[outside], right[outside], ridge[outside])
    return found


def _eliminated(matrices: Array, right: Array) -> Array:
    """Solutions of many small symmetric positive systems (..., k, k) at once, (..., k); LAPACK takes one by one."""
    k = right.shape[-1]
    least = 0.1 * RIDGE * sum(matrices[..., i, i] for i in range(k)) + TINIEST  # where rounding has eaten a pivot
    rows = [[matrices[..., i, j] for j in range(k)] for i in range(k)]
    goals = [right[..., i] for i in range(k)]
    for p in range(k):
        rows[p][p] = np.maximum(rows[p][p], least)
        for i in range(p + 1, k):
            share = rows[i][p] / rows[p][p]
            goals[i] = goals[i] - share * goals[p]
            for j in range(p + 1, k):
                rows[i][j] = rows[i][j] - share * rows[p][j]
    for i in reversed(range(k)):
        for j in range(i + 1, k):
            goals[i] = goals[i] - rows[i][j] * goals[j]
        goals[i] = goals[i] / rows[i][i]
    return np.stack(goals, axis=-1)


def _best_set(gram: Array, right: Array, ridge: Array) -> Array:
    """The same where some amplitudes have to be zero."""
    k = right.shape[1]
    masks = np.array([m for m in product((0.0, 1.0), repeat=k) if 0 < sum(m) < k])  # (sets, k)
    if not len(masks):
        return np.zeros_like(right)
    outer = masks[:, :, None] * masks[:, None, :]
    system = gram[:, None] * outer + np.eye(k) * (1 - masks)[:, None, :] + ridge[:, None]
    values = _eliminated(system, right[:, None] * masks)  # (B, sets, k)
    curved = np.matmul(values, gram)  # (B, sets, k)
    cost = (values * (0.5 * curved - right[:, None])).sum(-1)
    cost = np.where((values < 0).any(-1), np.inf, cost)
    best = np.argmin(cost, axis=1)
    return np.where(np.isfinite(cost.min(1))[:, None], values[np.arange(len(best)), best], 0.0)


def project(model: Powers, exponents: Array, log_loss: Array, weights: Array) -> Array:
    """Amplitudes for every row of `exponents` by reweighted non-negative least squares on relative residuals.

    exponents (G, m); weights (n,); log_loss (n,), or (G, n) where every row has its own, in one order of size. Returns
    theta (2 G, terms + m): the plain least-squares solutions and the robust ones after `REWEIGHTS` passes towards
    least absolute deviations.
    """
    theta = np.concatenate([np.zeros((len(exponents), model.terms)), exponents], axis=1)
    kept = looked_at(log_loss.reshape(-1, log_loss.shape[-1])[0])
    found = amplitudes(model.rows(kept).powers(theta), log_loss[..., kept], weights[kept])
    return np.concatenate([found, np.concatenate([exponents] * (len(found) // len(exponents)))], axis=1)


def looked_at(log_loss: Array) -> np.ndarray:
    """Rows that starts look at: all, or `START_ROWS` spread over the losses."""
    if len(log_loss) <= START_ROWS:
        return np.arange(len(log_loss))
    return np.argsort(log_loss)[np.linspace(0, len(log_loss) - 1, START_ROWS).round().astype(int)]


def amplitudes(features: Array, log_loss: Array, weights: Array) -> Array:
    """The same for features (G, n, terms) of any kind: (2 G, terms), plain solutions first."""
    features = features * np.exp(-log_loss)[..., None]  # relative to the measured loss
    solutions, row_weights = [], np.broadcast_to(weights, features.shape[:2])
    for step in range(REWEIGHTS + 1):
        weighted = features * row_weights[:, :, None]
        solution = solve_nonnegative(np.matmul(weighted.swapaxes(1, 2), features), weighted.sum(1))
        if step in (0, REWEIGHTS):
            solutions.append(solution)
        size = np.abs(1 - np.matmul(features, solution[:, :, None])[:, :, 0])
        row_weights = weights / np.maximum(size, 1e-3 * size.mean(1, keepdims=True) + 1e-9)
    return np.concatenate(solutions)


def each_with(values: Array, exponents: Array) -> tuple[Array, Array]:
    """Every row of values (V, v) with every row of exponents (E, m): (V E, v), (V E, m)."""
    return np.repeat(values, len(exponents), axis=0), np.tile(exponents, (len(values), 1))

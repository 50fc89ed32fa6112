"""How well ends are foretold: forecasts of finished runs, each from a law of the other folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.sweep.curves import Curve
from chemscale.sweep.forecast import CurveLaw, Ending
from chemscale.sweep.tse import Regression, correlation

FOLDS, LEAST = 8, 5  # folds, and finished runs without which there are none


@dataclass(frozen=True)
class Scores:
    """Of forecasts against what happened.

    Attributes:
        r2: share of the variance of final losses that the forecasts explain; below 0 where their mean would do better.
        spearman: rank correlation.
        error: mean absolute error relative to the final loss.
        inside: share of final losses inside the intervals.
    """

    r2: float
    spearman: float
    error: float
    inside: float


def law_endings(curves: Sequence[Curve], share: float, folds: int = FOLDS, seed: int = 0) -> list[Ending]:
    """Each finished curve's end from its first `share`, by a law that never saw the rest of it."""
    out: list[Ending | None] = [None] * len(curves)
    for inside, outside in _folds(len(curves), folds, seed):
        law = CurveLaw.fit([curves[i] for i in inside])
        for i in outside:
            out[i] = law.predict(curves[i].until(share))
    return [ending for ending in out if ending is not None]


def regression_endings(
    estimates: Sequence[float], finals: Sequence[float], folds: int = FOLDS, seed: int = 0
) -> list[Ending]:
    """The same from an estimate of each run, e.g. `tse.tse_ema`, by a straight line through the other folds."""
    out: list[Ending | None] = [None] * len(finals)
    for inside, outside in _folds(len(finals), folds, seed):
        line = Regression.fit([estimates[i] for i in inside], [finals[i] for i in inside])
        for i in outside:
            out[i] = line.predict(estimates[i])
    return [ending for ending in out if ending is not None]


def _folds(count: int, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if count < LEAST:
        raise ValueError(f"{count} finished runs cannot be forecast out of fold; train at least {LEAST} to their ends.")
    fold = np.random.default_rng(seed).permutation(count) % min(folds, count)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(min(folds, count))]


def scores(said: Sequence[Ending], finals: Sequence[float]) -> Scores:
    """What forecasts were worth."""
    predicted, true = np.array([s.value for s in said]), np.asarray(finals, dtype=float)
    total = float(((true - true.mean()) ** 2).sum())
    return Scores(
        r2=1 - float(((predicted - true) ** 2).sum()) / total if total > 0 else math.nan,
        spearman=correlation(finals, [s.value for s in said]),
        error=float(np.mean(np.abs(predicted / true - 1))),
        inside=float(np.mean([s.low <= v <= s.high for s, v in zip(said, finals, strict=True)])),
    )

"""Training speed estimation: sums of early training losses, and the final loss that they foretell.

Ru et al. 2021 (Speedy Performance Estimation for Neural Architecture Search) rank runs by such sums; Frey et al. 2023
regress the final loss of new runs on those of finished ones. Epochs count from 0; `epochs` is T of the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from chemscale.sweep.forecast import Ending


def tse(losses: Sequence[float], epochs: int) -> float:
    """Sum of the mean training losses of epochs 0 to `epochs` - 1.

    Args:
        losses: mean training loss of each epoch (or of any equal share of the training).

    Raises:
        ValueError: there are fewer losses than that.
    """
    return float(_reaching(losses, epochs, epochs)[:epochs].sum())


def tse_e(losses: Sequence[float], epochs: int, window: int = 1) -> float:
    """Sum of the mean training losses of the last `window` epochs up to and with epoch `epochs`.

    Raises:
        ValueError: there are fewer losses than that, or the window is longer.
    """
    if not 1 <= window <= epochs + 1:
        raise ValueError(f"tse_e(window={window}) is not allowed: from 1 to {epochs + 1} for epochs={epochs}.")
    return float(_reaching(losses, epochs, epochs + 1)[epochs + 1 - window : epochs + 1].sum())


def tse_ema(losses: Sequence[float], epochs: int, gamma: float = 0.999) -> float:
    """Sum over epochs t = 0 to `epochs`, with it, of gamma^(epochs - t) times the mean training loss.

    Raises:
        ValueError: there are fewer losses than that.
    """
    reached = _reaching(losses, epochs, epochs + 1)[: epochs + 1]
    return float(reached @ gamma ** np.arange(epochs, -1, -1.0))


def _reaching(losses: Sequence[float], epochs: int, needed: int) -> np.ndarray:
    if epochs < 1 or len(losses) < needed:
        raise ValueError(f"epochs={epochs} needs {max(1, needed)} losses of epochs, there are {len(losses)}.")
    return np.asarray(losses, dtype=float)


@dataclass(frozen=True)
class Regression:
    """The final loss as a straight line in an estimate, both in logarithms (Frey et al. 2023, across finished runs).

    Args:
        slope, intercept: of the line.
        centre, spread: mean of the log estimates and the sum of their squared distances from it.
        scale: residual standard deviation.
        runs: finished runs it was fitted to.
    """

    slope: float
    intercept: float
    centre: float
    spread: float
    scale: float
    runs: int

    @staticmethod
    def fit(estimates: Sequence[float], finals: Sequence[float]) -> Regression:
        """Least squares over finished runs.

        Raises:
            ValueError: fewer than three runs, a value that is not positive, or estimates that are all the same.
        """
        if len(estimates) != len(finals) or len(finals) < 3:
            raise ValueError(
                f"Regression.fit has {len(estimates)} estimates and {len(finals)} final losses; it takes the same "
                "number of each, at least 3."
            )
        x, y = np.asarray(estimates, dtype=float), np.asarray(finals, dtype=float)
        if not (np.all(x > 0) and np.all(y > 0) and np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
            raise ValueError(
                "Regression.fit takes positive, finite estimates and final losses; leave diverged runs out."
            )
        x, y = np.log(x), np.log(y)
        spread = float(((x - x.mean()) ** 2).sum())
        if spread < 1e-18:
            raise ValueError("Regression.fit has estimates that are all the same; a line needs at least two.")
        slope = float((x - x.mean()) @ (y - y.mean()) / spread)
        intercept = float(y.mean() - slope * x.mean())
        scale = float(np.sqrt(((y - intercept - slope * x) ** 2).sum() / (len(x) - 2)))
        return Regression(slope, intercept, float(x.mean()), spread, scale, len(x))

    def predict(self, estimate: float, level: float = 0.95) -> Ending:
        """The final loss of a new run with this estimate, with its predictive interval."""
        x = float(np.log(estimate))
        wider = np.sqrt(1 + 1 / self.runs + (x - self.centre) ** 2 / self.spread)
        return Ending.of(self.intercept + self.slope * x, self.scale * float(wider), self.runs - 2, level)


def correlation(truth: Sequence[float], predicted: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side is constant."""
    if len(set(truth)) < 2 or len(set(predicted)) < 2:
        return 0.0
    return float(stats.spearmanr(truth, predicted)[0])  # pyright: ignore[reportArgumentType]

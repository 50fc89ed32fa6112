"""Bootstrap draws of a law: parameter vectors that the data could as well have given. Each draw is a refit.

- `pairs`: groups of runs are drawn with replacement, which assumes nothing about the noise; below `FEW` groups some
  draws lose corners of the grid (weights that are never zero, Rubin 1981, were tried: they cover 5 to 10 % less)
- `wild`: the grid is kept and each group's residuals are flipped at random (Wu 1986; six-point weights of Webb 2023
  below `VERY_FEW` groups), enlarged by the leverage of their group (HC3, MacKinnon and White 1985; CR3 for clusters)
- `parametric`: new losses at the fitted law from a model of the noise (`noise.Noise`)
- `wald`: no refits, but steps from the normal approximation

Runs that share a `cluster` are drawn, flipped or disturbed together (Cameron, Gelbach and Miller 2008). Where a run is
known by a bound only, new losses would need the rule by which it was stopped, so there only `pairs` and `wald` draw.
Losses imputed from a forecast are drawn anew each time (Rubin 1987). Where draws and runs together are more than
`MOST_REFITTED`, a draw is one step from the fit (`onestep`), made of a few draws at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chemscale.laws.doubt.noise import Noise
from chemscale.laws.doubt.onestep import Stepper
from chemscale.laws.doubt.residuals import MAX_LEVERAGE, basis, covariance, freedom, measured, pulls, residuals
from chemscale.laws.objectives import Array
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import chunks, refit
from chemscale.laws.solver.tangent import enlarged, groups_of, of_one_size

FEW = 40  # groups; at 16 to 36 runs both bootstraps cover alike, but only the wild one always has a full grid
VERY_FEW = 12  # groups; two signs give at most 2^groups different draws
WALD = 400  # steps from the normal approximation
WEBB = np.sqrt(np.array([1.5, 1.0, 0.5]))
MOST_REFITTED = 4e6  # runs in all refits together: a quarter of a minute and a few hundred megabytes
METHODS = ("wald", "pairs", "wild", "parametric")


def refuse_seed(seed: int) -> None:
    """Raise ValueError for a number that numpy takes no seed from."""
    if seed < 0 or seed != int(seed):
        raise ValueError(f"seed={seed!r} must be zero or a positive whole number.")


@dataclass(frozen=True)
class Draws:
    """Parameter vectors that the data could as well have given.

    theta (draws, P) in the solver's coordinates; noise (n,) log residuals of single runs, scaled to the degrees of
    freedom left; method says where they come from, one of `METHODS`.
    """

    theta: Array
    noise: Array
    method: str


@dataclass(frozen=True)
class Sampler:
    """What draws are made of: a problem with its best fit, the groups of its runs, its noise.

    imputed (n,): standard deviation of each run's log loss where it is a forecast, else 0.
    """

    problem: Problem
    theta: Array
    clusters: np.ndarray
    noise: Noise
    imputed: Array

    def draw(self, method: str, count: int, seed: int) -> Draws:
        """`count` draws by one of `METHODS`."""
        rng = np.random.default_rng(seed)
        made = {"wald": self._wald, "pairs": self._pairs, "wild": self._wild, "parametric": self._parametric}
        known = measured(self.problem)
        scale = np.sqrt(known.sum() / freedom(self.problem))
        return Draws(made[method](rng, count), residuals(self.problem, self.theta)[known] * scale, method)

    def _pairs(self, rng: np.random.Generator, count: int) -> Array:
        groups, runs = int(self.clusters.max()) + 1, len(self.clusters)
        if self._steps(count):
            stepper, out = Stepper.at(self.problem, self.theta), []
            for part in chunks(count, runs):
                times = part.stop - part.start
                picks = np.stack([np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(times)])
                out.append(stepper.reweighted(self.problem.weights * picks[:, self.clusters]))
            return np.concatenate(out)
        picks = rng.multinomial(groups, np.full(groups, 1 / groups), size=count)
        losses = self.problem.log_loss + self.imputed * rng.standard_normal((count, runs))
        return refit(self.problem, losses, self.problem.weights * picks[:, self.clusters], self.theta)

    def _wild(self, rng: np.random.Generator, count: int) -> Array:
        groups, enlarged = int(self.clusters.max()) + 1, self._enlarged_residuals()

        def errors(times: int) -> Array:
            signs = rng.choice([-1.0, 1.0], size=(times, groups))
            if groups < VERY_FEW:
                signs = signs * rng.choice(WEBB, size=(times, groups))
            return signs[:, self.clusters] * enlarged

        return self._refit(errors, rng, count)

    def _parametric(self, rng: np.random.Generator, count: int) -> Array:
        return self._refit(lambda times: self.noise.draw(rng, times, self.clusters), rng, count)

    def _steps(self, count: int) -> bool:
        """Whether draws are steps; bounds and forecasts are always refitted."""
        plain = measured(self.problem).all() and not self.imputed.any()
        return bool(plain) and count * len(self.clusters) > MOST_REFITTED

    def _refit(self, errors: Callable[[int], Array], rng: np.random.Generator, count: int) -> Array:
        """Refits of the fitted law with `errors` of so many tables, (B, n)."""
        if self._steps(count):
            stepper = Stepper.at(self.problem, self.theta)
            parts = chunks(count, len(self.clusters))
            return np.concatenate([stepper.disturbed(errors(part.stop - part.start)) for part in parts])
        made = errors(count)
        made = made + self.imputed * rng.standard_normal(made.shape)
        fitted = self.problem.model.log_fit(self.theta[None])[0]
        weights = np.repeat(self.problem.weights[None], count, axis=0)
        return refit(self.problem, fitted + made, weights, self.theta)

    def _wald(self, rng: np.random.Generator, count: int) -> Array:
        roots, axes = np.linalg.eigh(covariance(self.problem, self.theta))
        steps = rng.standard_normal((max(count, WALD), len(self.theta))) * np.sqrt(np.maximum(roots, 0.0))
        return np.clip(self.theta + steps @ axes.T, self.problem.lower, self.problem.form.upper)

    def _enlarged_residuals(self) -> Array:
        """Residuals over what the fit leaves of their group's own errors, (n,), always of a least-squares fit.

        A robust fit passes exactly through P of the runs; flipping those zeros would pin every refit to these points.
        """
        problem, theta = self.problem, self.theta
        smooth = problem.objective.smooth
        if problem.objective.robust:
            start = theta[None]
            theta = newton(
                problem.model, smooth, problem.log_loss, problem.weights, start, problem.form.upper, 30,
                lower=problem.lower,
            )[0]  # fmt: skip
        root = np.sqrt(pulls(problem, theta))
        found = basis(problem, theta)
        errors = residuals(problem, theta) * root
        out = np.empty_like(errors)
        for groups in of_one_size(groups_of(self.clusters)):
            out[groups] = enlarged(found[groups], errors[groups], lambda left: 1 / np.maximum(left, 1 - MAX_LEVERAGE))
        return out / root

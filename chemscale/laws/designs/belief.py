"""What is known before the next runs are chosen: parameter vectors that may be true, and the runs behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chemscale.laws.errors import FitError
from chemscale.laws.fit import Options, fit
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.law import Law
from chemscale.laws.objectives import Array, Objective

DRAWS = 32  # parameter vectors that a design is averaged over
NOISE = 0.01  # log units: the scatter of a run whose law is not known yet
LEAST_NOISE = 1e-4  # a law through all of its runs would make one more run worth nothing
PRIOR_EXPONENT, PRIOR_AMPLITUDE = 0.5, 1.0  # standard deviations, in the solver's units where amplitudes are of order 1
PLAUSIBLE = ("chinchilla", "tied", "power")  # forms of two axes that a design is averaged over while runs allow them
AS_GOOD = 2.0  # a form is plausible while its backtest errs at most so many times as much as the best one's
EXPONENTS = (0.1, 0.6)  # what exponents of losses may be before any is measured (Hestness et al. 2017, figure 6)


@dataclass(frozen=True)
class Belief:
    """Plausible laws of one form, and where runs have been made.

    theta (draws, P) in the solver's coordinates; centre (axes,) natural logs; noise the standard deviation of one run's
    log loss; seen (n, axes) centred logs of the runs made or under way, whose losses need not be known.
    """

    form: Form
    theta: Array
    centre: Array
    noise: float
    seen: Array

    @classmethod
    def of(cls, law: Law, count: int = DRAWS) -> Belief:
        """What a fitted law says, with `count` of its draws, evenly spaced."""
        held = law.solution
        picks = np.linspace(0, len(held.draws) - 1, min(count, len(held.draws))).astype(int)
        noise = max(float(np.sqrt(np.mean(held.noise**2))), LEAST_NOISE)
        x = np.log(law.runs.stacked(law.roles)) - held.centre
        return cls(law.shape, np.vstack([held.theta, held.draws[picks]]), held.centre, noise, x)

    @classmethod
    def before(cls, roles: tuple[str, ...], points: Array, count: int = DRAWS, seed: int = 0) -> Belief:
        """What is plausible before any run: powers over a floor around the middle of `points` (n, axes).

        Raises ValueError for axes other than one, or params and data.
        """
        form = choose("chinchilla" if len(roles) == 2 else "power_floor", roles)
        terms = len(form.inner) - len(roles)
        rng = np.random.default_rng(seed)
        shares = rng.dirichlet(np.ones(terms), size=count)
        exponents = rng.uniform(*EXPONENTS, size=(count, len(roles)))
        centre = np.log(points).mean(0)
        return cls(form, np.hstack([shares, exponents]), centre, NOISE, np.empty((0, len(roles))))

    def with_runs(self, points: Array) -> Belief:
        """The same, once runs at these points (n, axes) are under way."""
        if not len(points):
            return self
        return replace(self, seen=np.vstack([self.seen, np.log(points) - self.centre]))

    def slopes(self, points: Array) -> Array:
        """Derivatives of the log loss at points (n, axes) by the parameters, (draws, n, P)."""
        return self.form.bind(np.log(points) - self.centre).derivatives(self.theta).jacobian

    def information(self) -> Array:
        """Precision of the parameters after the runs made, (draws, P, P), with a weak prior that keeps it regular."""
        at = self.form.bind(self.seen).derivatives(self.theta).jacobian / self.noise
        spread = np.where(np.isfinite(self.form.upper), PRIOR_EXPONENT, PRIOR_AMPLITUDE)
        return np.matmul(at.swapaxes(1, 2), at) + np.diag(spread**-2.0)


def plausible(law: Law, forms: Sequence[str] = PLAUSIBLE) -> list[Belief]:
    """What a law says, and the other forms that foretell its largest runs about as well from the smaller ones."""
    beliefs = [Belief.of(law)]
    if law.backtest is None or law.roles != ("params", "data"):
        return beliefs
    runs, goal = law.runs, law.objective
    table = {role: runs.axes[role] for role in law.roles} | {"loss": runs.loss, "weights": runs.weights}
    table |= {} if runs.flops is None else {"flops": runs.flops}
    table |= {} if runs.censored is None else {"bounds": runs.censored}
    options: Options = {
        "params": "params", "data": "data", "weights": "weights", "objective": goal["name"],
        "delta": goal["delta"] or Objective.delta, "bootstrap": 0, "hold_out": "largest",
    }  # fmt: skip
    options |= {} if runs.censored is None else {"censored": "bounds"}
    tested = {}  # the law's own form too: its backtest may have held out other runs
    for form in dict.fromkeys((law.form, *forms)):
        try:
            one = fit(table, loss="loss", **{**options, "form": form})
        except (ValueError, FitError):
            continue
        if one.backtest is not None:
            tested[form] = one
    errors = [one.backtest.rmsle for one in tested.values()]
    return beliefs + [
        Belief.of(one)
        for form, one in tested.items()
        if form != law.form and one.backtest.rmsle <= AS_GOOD * min(errors)
    ]

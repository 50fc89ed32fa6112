"""What is known before the next runs are chosen: parameter vectors that may be true, and the runs behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chemscale.laws.backtests.backtest import Backtest
from chemscale.laws.backtests.trials import ask, tested
from chemscale.laws.designs.drift import drift_of
from chemscale.laws.errors import FitError
from chemscale.laws.fit import Options, fit
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.law import Law
from chemscale.laws.objectives import Array, Objective

DRAWS = 32  # parameter vectors that a design is averaged over
NOISE = 0.01  # log units: the scatter of a run whose law is not known yet
NOISE_RUNS = 2  # runs that this counts for once residuals are known: a law through all of its runs has none
PRIOR_EXPONENT, PRIOR_AMPLITUDE = 0.5, 1.0  # standard deviations, in the solver's units where amplitudes are of order 1
PLAUSIBLE = ("chinchilla", "tied", "power")  # forms of two axes that a design is averaged over while runs allow them
AS_GOOD = 2.0  # a form is plausible while its backtest errs at most so many times as much as the best one's
EXPONENTS = (0.1, 0.6)  # what exponents of losses may be before any is measured (Hestness et al. 2017, figure 6)


@dataclass(frozen=True)
class Belief:
    """Plausible laws of one form, and where runs have been made.

    theta (draws, P) in the solver's coordinates; centre (axes,) natural logs; noise the standard deviation of one run's
    log loss; seen (n, axes) centred logs of the runs made or under way, whose losses need not be known; drift the
    variance of the error of form per natural log of distance from the target (see `drift`).
    """

    form: Form
    theta: Array
    centre: Array
    noise: float
    seen: Array
    drift: float = 0.0

    @classmethod
    def of(cls, law: Law, count: int = DRAWS) -> Belief:
        """What a fitted law says, with `count` of its draws, evenly spaced, and the error of its backtest."""
        held = law.solution
        picks = np.linspace(0, len(held.draws) - 1, min(count, len(held.draws))).astype(int)
        left = max(len(law.runs) - len(held.theta), 0)
        noise = np.sqrt((NOISE_RUNS * NOISE**2 + left * np.mean(held.noise**2)) / (NOISE_RUNS + left))
        x = np.log(law.runs.stacked(law.roles)) - held.centre
        theta = np.vstack([held.theta, held.draws[picks]])
        return cls(law.shape, theta, held.centre, float(noise), x, drift_of(law.backtest))

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
        return cls(
            form, np.hstack([shares, exponents]), centre, NOISE, np.empty((0, len(roles))), drift_of(None)
        )  # fmt: skip

    def with_runs(self, points: Array) -> Belief:
        """The same, once runs at these points (n, axes) are under way."""
        if not len(points):
            return self
        return replace(self, seen=np.vstack([self.seen, np.log(points) - self.centre]))

    def slopes(self, points: Array) -> Array:
        """Derivatives of the log loss at points (n, axes) by the parameters, (draws, n, P)."""
        return self.form.bind(np.log(points) - self.centre).derivatives(self.theta).jacobian

    def prior(self) -> Array:
        """Precision of the parameters without any run, (P, P): weak, and enough to keep it regular."""
        spread = np.where(np.isfinite(self.form.upper), PRIOR_EXPONENT, PRIOR_AMPLITUDE)
        return np.diag(spread**-2.0)

    @property
    def places(self) -> Array:
        """Where runs were made, (n, axes)."""
        return np.exp(self.seen + self.centre)


def plausible(law: Law, forms: Sequence[str] = PLAUSIBLE) -> list[Belief]:
    """What a law says, the other forms that foretell its largest runs about as well, and what was plausible before.

    Forms are judged by the same runs held out, the largest fifth, whatever the law's own backtest held out. What was
    plausible before any run stays in: the parameters of a law of few runs may be far off, and a design that is best for
    them alone teaches less than one that is good for all. Without `forms` (for a target that is one form's own
    parameter) nothing of another form is asked.
    """
    own = _foretold(law)
    mine = Belief.of(law) if own is None else replace(Belief.of(law), drift=drift_of(own))
    if law.roles != ("params", "data"):
        return [mine]
    first = replace(Belief.before(law.roles, mine.places).with_runs(mine.places), noise=mine.noise)
    beliefs = [mine, first] if first.form.name in (law.form, *forms) else [mine]
    if own is None:
        return beliefs
    rivals = [(name, test) for name in forms if name != law.form and (test := _foretold(law, name)) is not None]
    best = min(test.rmsle for test in (own, *(test for _, test in rivals)))
    for name, test in rivals:
        if test.rmsle <= AS_GOOD * best and (rival := _refitted(law, name)) is not None:
            beliefs.append(replace(Belief.of(rival), drift=drift_of(test)))
    return beliefs


def _foretold(law: Law, name: str | None = None) -> Backtest | None:
    """The backtest of a form, by default the law's own, on the law's largest runs; None where it cannot be made."""
    try:
        form = law.shape if name is None else choose(name, law.roles)
        return tested(form, law.runs, law.problem.objective, ask(law.runs, "largest", None))
    except (ValueError, FitError):
        return None


def _refitted(law: Law, name: str) -> Law | None:
    """The runs of a law fitted by another form; None where it is not to be believed."""
    runs, goal = law.runs, law.objective
    table = {role: runs.axes[role] for role in law.roles} | {"loss": runs.loss, "weights": runs.weights}
    options: Options = {
        "form": name, "params": "params", "data": "data", "weights": "weights", "objective": goal["name"],
        "delta": goal["delta"] or Objective.delta, "bootstrap": 0,
    }  # fmt: skip
    if runs.censored is not None:
        table["bounds"], options["censored"] = runs.censored, "bounds"
    try:
        return fit(table, loss="loss", **options)
    except (ValueError, FitError):
        return None

"""All the runs that one budget pays for, and the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.doubt.identify import FEW
from chemscale.laws.doubt.residuals import interval
from chemscale.laws.law import Law
from chemscale.laws.objectives import Array
from chemscale.laws.optimum import lowest, lowest_size, open_ends
from chemscale.plan.cost import Spend

REACH = 3.0  # decades beyond the fitted runs that are searched
POINTS = 800
WIDEST = 2.0  # decades; an optimum known no better than this is not a plan
HALVINGS = 60
USEFUL = 0.01  # share of the loss; a size from which ten times the parameters take off less is large enough
OPEN = f"the interval of the best size reaches more than {REACH:g} decades outside the runs"


@dataclass(frozen=True)
class Found:
    """The best run of a budget, with intervals over the law's draws; `doubt` says why it is not to be believed.

    An interval is open, to 0 or infinity, where draws put the best size beyond what is searched. useful: whether data
    run out so early that the size is the largest useful one, and not all that the budget would pay for.
    """

    params: float
    data: float
    params_interval: tuple[float, float]
    data_interval: tuple[float, float]
    doubt: str | None
    useful: bool = False


@dataclass(frozen=True)
class Line:
    """One budget's line through the plane of parameters and data.

    most_data: unique data there are, where the budget would pay for more; labels: the same, where the budget is chosen
    so that its optimum needs just those.
    """

    law: Law
    spend: Spend
    budget: float
    most_data: float | None = None
    labels: float | None = None

    @classmethod
    def through_labels(cls, law: Law, spend: Spend, labels: float) -> Line:
        """The budget at whose optimum just these unique data are used."""
        probe = cls(law, spend, 1.0)
        sizes = np.exp(probe.sizes()[[0, -1]])
        low, high = np.log(spend.of(sizes, np.array(labels)))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if cls(law, spend, float(np.exp(middle))).best()[1] < labels:
                low = middle
            else:
                high = middle
        return cls(law, spend, float(np.exp(high)), None, labels)

    def sizes(self) -> Array:
        """Natural logs of the parameter counts that are searched."""
        held, reach = self.law.solution, REACH * np.log(10)
        return np.linspace(held.low[0] - reach, held.high[0] + reach, POINTS) + held.centre[0]

    def data_for(self, params: Array) -> Array:
        """Data that the budget pays for, no more than there is."""
        data = self.spend.data_for(params, self.budget)
        return np.minimum(data, self.most_data) if self.most_data else data

    def best(self) -> tuple[float, float]:
        """Parameters and data with the lowest central loss."""
        params = float(np.exp(lowest_size(self.law, self.sizes(), self.data_for)))
        return params, float(self.data_for(np.array([params]))[0])

    def optimum(self) -> Found:
        """The best run, how far it may lie, and what speaks against it.

        Where data run out and the budget would pay for a size that the law does not reach, the largest useful one.
        """
        params, data, params_around, data_around = lowest(self.law, self.sizes(), self.data_for)
        if self.most_data and data >= self.most_data * (1 - 1e-9) and not self._reached(0, np.log(params)):
            return self._useful(self.most_data)
        doubt = self._doubt(float(np.log(params)), data) or _wide(*params_around)
        return Found(params, data, params_around, data_around, doubt)

    def _useful(self, data: float) -> Found:
        """The size from which on ten times the parameters take less than `USEFUL` off the loss, on all data there are.

        Of a Chinchilla law, with u = `USEFUL`: N = (A (1 - 10^-alpha - u) / (u (E + B D^-beta)))^(1 / alpha).
        """
        law, sizes = self.law, self.sizes()
        now, more = (
            np.stack([log_n, np.full(POINTS, np.log(data))], axis=1) - law.solution.centre
            for log_n in (sizes, sizes + np.log(10))
        )
        at = float(_last_above(sizes, (law.log_central(now) - law.log_central(more))[None])[0])
        drawn = _last_above(sizes, law.log_draws(now) - law.log_draws(more))
        ends = open_ends(interval(drawn, at, law.level, law.widening), sizes)
        doubt = self._doubt(at, data) or (None if np.isfinite(ends).all() else OPEN)
        doubt = f"data run out at {data:.3g}, and {doubt}" if doubt else None
        params = (float(np.exp(ends[0])), float(np.exp(ends[1])))
        return Found(float(np.exp(at)), data, params, (data, data), doubt, useful=True)

    def loss_draws(self, params: float, data: float) -> Array:
        """Loss of one run in every draw of the law."""
        return np.exp(self.law.log_draws(np.log([[params, data]]) - self.law.solution.centre)[:, 0])

    def _reached(self, axis: int, at: float) -> bool:
        """Whether a natural log on an axis lies near enough to the runs to be believed."""
        fitted, reach = self.law.solution, REACH * np.log(10)
        edge = 3 * REACH / POINTS * np.log(10)  # the search stops at the reach, so a best size there is beyond it
        low, high = (side[axis] + fitted.centre[axis] for side in (fitted.low, fitted.high))
        return bool(low - reach + edge < at < high + reach - edge)

    def _doubt(self, at: float, data: float) -> str | None:
        lost = [name for name in ("alpha", "beta") if self.law.parameters.get(name, 0.0) is None]
        if len(lost) == 2:
            why = [w for w in self.law.warnings if w.startswith(tuple(f"{name} is not" for name in lost))]
            return f"neither exponent is identified ({'; '.join(why or self.law.warnings[:2])})"
        few = [warning for warning in self.law.warnings if FEW in warning]
        if few:
            return few[0]
        unit = self.law.columns["data"]["units"]
        if data < 1:
            return f"the budget pays for less than one unit of {unit} at the best size"
        for axis, (what, value) in enumerate((("size", at), (f"amount of {unit}", np.log(data)))):
            if not self._reached(axis, value):
                return f"the best {what} lies more than {REACH:g} decades outside the runs that were fitted"
        return None


def _wide(low: float, high: float) -> str | None:
    """What an interval of the best size says against a plan."""
    if not (low > 0 and np.isfinite(high)):
        return OPEN
    width = np.log10(high / low)
    if width > WIDEST:
        return f"the interval of the best size spans {width:.1f} decades of parameters"
    return None


def _last_above(sizes: Array, gains: Array) -> Array:
    """Where each row of gains in log loss (B, points) falls to `USEFUL` for good, on the even grid `sizes`, (B,)."""
    enough = -np.log1p(-USEFUL)
    last = gains.shape[1] - 1 - np.argmax(gains[:, ::-1] > enough, axis=1)
    above = (gains > enough).any(axis=1)
    inner = np.minimum(last, gains.shape[1] - 2)
    rows = np.arange(len(gains))
    left, right = gains[rows, inner], gains[rows, inner + 1]
    share = np.clip((left - enough) / np.where(left > right, left - right, np.inf), 0, 1)
    inside = sizes[inner] + share * (sizes[1] - sizes[0])
    return np.where(above, np.where(last > inner, sizes[-1], inside), sizes[0])

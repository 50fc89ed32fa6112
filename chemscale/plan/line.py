"""All the runs that one budget pays for, and the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.doubt.identify import FEW
from chemscale.laws.doubt.residuals import interval
from chemscale.laws.law import Law
from chemscale.laws.objectives import Array
from chemscale.laws.optimum import grid_minimum, open_ends
from chemscale.plan.cost import Spend

REACH = 3.0  # decades beyond the fitted runs that are searched
POINTS = 800
WIDEST = 2.0  # decades; an optimum known no better than this is not a plan
HALVINGS = 60


@dataclass(frozen=True)
class Found:
    """The best run of a budget, with intervals over the law's draws; `doubt` says why it is not to be believed.

    An interval is open, to 0 or infinity, where draws put the best size beyond what is searched.
    """

    params: float
    data: float
    params_interval: tuple[float, float]
    data_interval: tuple[float, float]
    doubt: str | None


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

    def points(self) -> Array:
        """Centred logs of the runs of the budget, (points, 2)."""
        sizes = self.sizes()
        return np.stack([sizes, np.log(self.data_for(np.exp(sizes)))], axis=1) - self.law.solution.centre

    def best(self) -> tuple[float, float]:
        """Parameters and data with the lowest central loss."""
        sizes = self.sizes()
        x = self.points() + self.law.solution.centre
        central = np.log(self.law.losses(params=np.exp(x[:, 0]), data=np.exp(x[:, 1])))[None]
        params = float(np.exp(grid_minimum(sizes, central)[0]))
        return params, float(self.data_for(np.array([params]))[0])

    def optimum(self) -> Found:
        """The best run, how far it may lie, and what speaks against it."""
        params, data = self.best()
        at = float(np.log(params))
        drawn = grid_minimum(self.sizes(), self.law.log_draws(self.points()))
        ends = open_ends(interval(drawn, at, self.law.level, self.law.widening), self.sizes())
        with np.errstate(divide="ignore", invalid="ignore"):  # a model of nothing costs nothing, one without end all
            sides = np.sort(self.data_for(np.exp(ends)))
        around = (float(np.exp(ends[0])), float(np.exp(ends[1]))), (float(sides[0]), float(sides[1]))
        return Found(params, data, *around, self._doubt(at, data, ends))

    def loss_draws(self, params: float, data: float) -> Array:
        """Loss of one run in every draw of the law."""
        return np.exp(self.law.log_draws(np.log([[params, data]]) - self.law.solution.centre)[:, 0])

    def _doubt(self, at: float, data: float, ends: Array) -> str | None:
        lost = [name for name in ("alpha", "beta") if self.law.parameters.get(name, 0.0) is None]
        if len(lost) == 2:
            return f"neither exponent is identified ({'; '.join(self.law.warnings[:2])})"
        few = [warning for warning in self.law.warnings if FEW in warning]
        if few:
            return few[0]
        fitted, reach = self.law.solution, REACH * np.log(10)
        unit = self.law.columns["data"]["units"]
        if data < 1:
            return f"the budget pays for less than one unit of {unit} at the best size"
        edge = 3 * REACH / POINTS * np.log(10)  # the search stops at the reach, so a best size there is beyond it
        for axis, (what, value) in enumerate((("size", at), (f"amount of {unit}", np.log(data)))):
            low, high = (side[axis] + fitted.centre[axis] for side in (fitted.low, fitted.high))
            if not low - reach + edge < value < high + reach - edge:
                return f"the best {what} lies more than {REACH:g} decades outside the runs that were fitted"
        width = (ends[1] - ends[0]) / np.log(10)
        if not np.isfinite(width):
            return f"the interval of the best size reaches more than {REACH:g} decades outside the runs"
        if width > WIDEST:
            return f"the interval of the best size spans {width:.1f} decades of parameters"
        return None

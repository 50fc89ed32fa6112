"""What is to be minimised: one form, one set of runs, one objective."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chemscale.laws.forms.form import Form, Model
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.rowwise import judged
from chemscale.laws.tables.table import Rows

SEARCHED = 3000  # runs that a search looks at; the polish of what it finds sees all


@dataclass(frozen=True)
class Problem:
    """One form, one set of runs, one objective, in centred logs.

    x (n, axes) natural logs minus `centre`; log_loss (n,) natural log minus `log_scale`; weights (n,) of mean one;
    `noise_floor`, in the loss's unit, is measured from outside, and the floor of the form is not below it.
    """

    form: Form
    objective: Objective
    x: Array
    log_loss: Array
    weights: Array
    centre: Array
    log_scale: float
    noise_floor: float = 0.0

    @classmethod
    def of(
        cls, form: Form, objective: Objective, axes: Array, loss: Array, weights: Array, noise_floor: float = 0.0
    ) -> Problem:
        """Centre `axes` (n, roles) and scale `loss` (n,)."""
        logs = np.log(axes)
        log_loss = np.log(loss)
        centre, scale = form.centre(logs), float(log_loss.mean())
        weights = weights / weights.mean()
        return cls(form, objective, logs - centre, log_loss - scale, weights, centre, scale, noise_floor)

    @classmethod
    def over(cls, form: Form, objective: Objective, runs: Rows) -> Problem:
        """The problem of a table's runs."""
        objective = judged(objective, runs.censored)
        return cls.of(form, objective, runs.stacked(form.roles), runs.loss, runs.weights, runs.noise_floor)

    def searched(self) -> Problem:
        """The problem of at most `SEARCHED` runs, in the same centre and scale: itself where it has no more."""
        if len(self.x) <= SEARCHED:
            return self
        kept = self.form.sample(self.x, SEARCHED)
        parts = {"x": self.x[kept], "log_loss": self.log_loss[kept], "weights": self.weights[kept]}
        return replace(self, objective=self.objective.take(kept), **parts)

    @property
    def model(self) -> Model:
        """The form at these runs."""
        return self.form.bind(self.x)

    @property
    def lower(self) -> Array:
        """Lower bounds of theta, (P,)."""
        return self.form.lower(self.noise_floor / np.exp(self.log_scale))

    def value(self, theta: Array) -> Array:
        """Objective of each parameter vector in the loss's own units, (B,)."""
        penalty = self.objective.penalty(self.log_loss, self.model.log_fit(theta))
        unit = np.exp(2 * self.log_scale) if self.objective.name == "lsq" else 1.0
        return unit * (penalty * self.weights).sum(1)

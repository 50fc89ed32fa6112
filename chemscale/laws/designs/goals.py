"""What a design is good for, as a number that a run more or less moves: the error of the target, or of everything.

M is the information of the runs made: their slopes over their noise, squared and summed, and the prior. An unweighted
fit leans on each run c by w_c = j_c . M^-1 g / noise^2, g the slopes of the target, and errs at the target by
    g' M^-1 g + sum_cd w_c w_d K_cd,
the variance, and what the errors of form K of the runs do to it (Box and Draper 1959, Journal of the American
Statistical Association 54, 622, with a drift in the place of their polynomial). More runs far away lower the first and
may raise the second. D-optimality takes the form for true and minimises det M^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from chemscale.laws.designs.belief import Belief
from chemscale.laws.designs.drift import shared_error
from chemscale.laws.objectives import Array
from chemscale.laws.solver.numbers import Parameter


class Goal(Protocol):
    """A number, the smaller the better, of the runs that are taken."""

    def take(self, picks: Sequence[int]) -> None:
        """Take these candidates and no other."""
        ...

    def value(self) -> float:
        """Now."""
        ...

    def after(self) -> Array:
        """Once each of the candidates is taken too, (n,)."""
        ...


class _Taken:
    """The information of one belief as candidates are taken."""

    def __init__(self, belief: Belief, points: Array) -> None:
        made = belief.slopes(belief.places) / belief.noise
        self.rows = belief.slopes(points) / belief.noise  # (draws, n, P)
        self.made = made
        self.start = np.matmul(made.swapaxes(1, 2), made) + belief.prior()
        self.take([])

    def take(self, picks: Sequence[int]) -> None:
        self.picks = list(picks)
        taken = self.rows[:, self.picks]
        self.inverse = np.linalg.inv(self.start + np.matmul(taken.swapaxes(1, 2), taken))


class Volume(_Taken):
    """Mean log determinant of the parameters' covariance."""

    def value(self) -> float:
        """Now."""
        return float(np.linalg.slogdet(self.inverse)[1].mean())

    def after(self) -> Array:
        """Once each of the candidates is taken too, (n,)."""
        own = np.einsum("knp,knp->kn", np.matmul(self.rows, self.inverse), self.rows)
        return self.value() - np.log1p(own).mean(0)


class Error(_Taken):
    """Mean log squared error of the target, a point (axes,) or the name of a parameter.

    The errors of form are none at the point, or for a parameter in the middle of all runs. Raises ValueError for a name
    that the form does not have.
    """

    def __init__(self, belief: Belief, points: Array, target: Array | str) -> None:
        logs = np.log(np.vstack([belief.places, points]))
        about = logs.mean(0) if isinstance(target, str) else np.log(np.asarray(target, float))
        self.g = _slopes(belief, target)
        self.shared = shared_error(logs, about) * belief.drift / belief.noise**2
        super().__init__(belief, points)

    def take(self, picks: Sequence[int]) -> None:
        """Take these candidates and no other."""
        super().take(picks)
        first = self.made.shape[1]
        held = [*range(first), *(first + pick for pick in self.picks)]
        taken = np.concatenate([self.made, self.rows[:, self.picks]], axis=1)
        self.pulled = np.matmul(self.shared[first:, held], taken)  # (draws, n, P)
        self.bent = np.matmul(taken.swapaxes(1, 2), np.matmul(self.shared[np.ix_(held, held)], taken))
        self.own = np.diag(self.shared)[first:]

    def value(self) -> float:
        """Now."""
        lean = np.matmul(self.inverse, self.g[:, :, None])[:, :, 0]
        found = np.einsum("kp,kp->k", self.g, lean) + np.einsum("kp,kpq,kq->k", lean, self.bent, lean)
        return float(np.log(found).mean())

    def after(self) -> Array:
        """Once each of the candidates is taken too, (n,)."""
        lean = np.matmul(self.inverse, self.g[:, :, None])[:, None, :, 0]  # (draws, 1, P)
        toward = np.matmul(self.rows, self.inverse)
        grown = 1 + np.einsum("knp,knp->kn", toward, self.rows)
        lean = lean - toward * (np.einsum("knp,kp->kn", self.rows, lean[:, 0]) / grown)[..., None]  # (draws, n, P)
        weight = np.einsum("knp,knp->kn", self.rows, lean)
        variance = np.einsum("kp,knp->kn", self.g, lean)
        form = np.einsum("knp,knp->kn", np.matmul(lean, self.bent), lean)
        form = form + weight * (2 * np.einsum("knp,knp->kn", self.pulled, lean) + self.own * weight)
        return np.log(np.maximum(variance + form, 1e-300)).mean(0)


def _slopes(belief: Belief, target: Array | str) -> Array:
    """Derivatives of the target by the parameters, (draws, P); of its logarithm for an amplitude."""
    if not isinstance(target, str):
        return belief.slopes(np.asarray(target, float)[None])[:, 0]
    if target not in belief.form.names:
        raise ValueError(f"target={target!r} is no parameter of {belief.form.name}: {', '.join(belief.form.names)}.")
    return Parameter(belief.form, target, belief.centre, 0.0).gradient(belief.theta)

"""Profile likelihood: how well the law can still fit when one number of it is held at another value.

The number may be a published parameter or the loss at a new point. Holding is done by one more row that pulls the
number towards a target; where that pull and the data balance is the exact best fit at the number that it reached, so
no constraint has to be solved for. The deviance is twice the rise of the working objective (`tangent.working`), in the
unit of its variance; its signed root is compared with Student's t (for equal noise, an F test of one parameter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chemscale.laws.forms.form import Derivatives, Metric, Model
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.numbers import Number
from chemscale.laws.solver.rowwise import Appended

PULL = 1e4  # of the pinning row, in units of the information that the runs hold: it reaches its target within 1e-4
STEPS = 60
BACK = 2  # steps back onto the curve on which a number is held
ROUNDS = 12  # of secants towards the end of an interval
FIRST = 0.25  # of the way to where a parabola would end: from a far target the fit may fall into another basin
SETTLED = 1e-9
NEAR = 1e-3  # damping of the first step: the start lies near
CLOSE = 1e-3  # relative, of the root at an end


class Pinned(Model):
    """A model whose last row is a number of the law."""

    def __init__(self, model: Model, number: Number) -> None:
        self.model, self.number = model, number

    def among(self, which: np.ndarray) -> Pinned:
        return Pinned(self.model.among(which), self.number.among(which))

    def log_fit(self, theta: Array) -> Array:
        return np.concatenate([self.model.log_fit(theta), self.number.of(theta)[:, None]], 1)

    def derivatives(self, theta: Array) -> Derivatives:
        at, own = self.model.derivatives(theta), self.number.derivatives(theta)
        fit = np.concatenate([at.log_fit, own.log_fit], 1)
        jacobian = np.concatenate([at.jacobian, own.jacobian], 1)
        return Derivatives(fit, jacobian, lambda v: at.curvature(v[:, :-1]) + own.curvature(v[:, -1:]))

    def settled(self, at: Derivatives, here: Array, there: Array, metric: Metric) -> Array:
        """A straight step leaves the curve on which the number is held, and would have to be short: back onto it.

        By the way that costs the other rows least, to where the number would be if it were linear (a second-order
        correction; Nocedal and Wright 2006, section 18.3).
        """
        slope = at.jacobian[:, -1]
        aimed, way = at.log_fit[:, -1] + (slope * (there - here)).sum(1), metric.solved(slope)
        along = (slope * way).sum(1)
        for _ in range(BACK):
            with np.errstate(all="ignore"):  # such steps are not taken
                back = way * ((self.number.of(there) - aimed) / along)[:, None]
            there = metric.within(there - np.where(np.isfinite(back), back, 0.0))
        return there


class Held(NamedTuple):
    """Where the pinned fit ended: the number reached, twice the rise of the objective there, the parameters."""

    number: Array
    deviance: Array
    theta: Array


@dataclass(frozen=True)
class Tables:
    """S tables of one design with their best fits under the working objective.

    log_loss, weights (S, n); theta (S, P).
    """

    model: Model
    goal: Objective
    lower: Array
    upper: Array
    log_loss: Array
    weights: Array
    theta: Array

    def repeated(self, count: int) -> Tables:
        """All tables, `count` times over."""
        return self.among(np.tile(np.arange(len(self.theta)), count))

    def among(self, which: np.ndarray) -> Tables:
        """Some of the tables."""
        losses, weights, theta = self.log_loss[which], self.weights[which], self.theta[which]
        return Tables(self.model.among(which), self.goal.among(which), self.lower, self.upper, losses, weights, theta)

    def rise(self, theta: Array) -> Array:
        """Objective of each table at theta (S, P)."""
        return (self.goal.penalty(self.log_loss, self.model.log_fit(theta)) * self.weights).sum(1)

    def hold(self, number: Number, target: Array, start: Array, pull: Array) -> Held:
        """The best fits with the number drawn to `target` (S,) from `start` (S, P), by a row of weight `pull` (S,)."""
        goal = Appended(self.goal.name, self.goal.delta, self.goal.spread, self.goal)
        losses = np.concatenate([self.log_loss, target[:, None]], 1)
        weights = np.concatenate([self.weights, pull[:, None]], 1)
        model = Pinned(self.model, number)
        found = newton(model, goal, losses, weights, start, self.upper, STEPS, SETTLED, self.lower, NEAR)
        return Held(number.of(found), 2 * (self.rise(found) - self.rise(self.theta)), found)

    def roots(self, number: Number, target: Array, model: Array) -> Array:
        """Square root of the deviance with the number at `target` (S,), for its variance `model` (S,), (S,)."""
        at = number.of(self.theta)
        held = self.hold(number, target, self.theta, PULL / model)
        moved = held.number - at
        asked = np.where(np.abs(moved) > 0, np.abs((target - at) / np.where(moved == 0, 1.0, moved)), 1.0)
        return np.sqrt(np.maximum(held.deviance, 0.0)) * np.minimum(asked, 1.01)  # what is left is linear


def ends(tables: Tables, number: Number, model: Array, most: Array) -> Array:
    """The number's values at which the root of the deviance is `most` (S,), on its own scale, (S, 2).

    model (S,): variance of the number per unit of the objective. A number that comes to a bound ends there; -inf or
    inf where no value fits that much worse.
    """
    count, both = len(most), np.concatenate([np.arange(len(most))] * 2)
    sign = np.repeat([-1.0, 1.0], count)
    found = _end(tables.repeated(2), number.among(both), model[both], most[both], sign)
    return found.reshape(2, count).T


def _end(tables: Tables, number: Number, model: Array, most: Array, sign: Array) -> Array:
    """By secants in the root, which is nearly linear in the number, between a value inside and one outside.

    Each fit starts on the line from the best fit through the one inside, so that it follows the law outwards. A side on
    which the number leaves the range of floats, such as an amplitude to the power of a large 1/gamma, is open.
    """
    at, far = number.of(tables.theta), sign * FIRST * most * np.sqrt(model)
    inside, inside_root, theta = at.copy(), np.zeros(len(at)), tables.theta.copy()
    outside, outside_root = np.full(len(at), np.nan), np.full(len(at), np.nan)
    target, reached, lost = at + far, at.copy(), np.zeros(len(at), bool)
    left = np.arange(len(at))
    for _ in range(ROUNDS):
        part = tables.among(left)
        with np.errstate(invalid="ignore"):  # where the best fit's own number is beyond the range of floats
            share = (target[left] - inside[left]) / np.where(inside[left] == at[left], np.inf, inside[left] - at[left])
        start = np.clip(theta[left] + (theta[left] - part.theta) * share[:, None], tables.lower, tables.upper)
        held = part.hold(number.among(left), target[left], start, PULL / model[left])
        root = np.sqrt(np.maximum(held.deviance, 0.0))
        known = np.isfinite(held.number) & np.isfinite(root)
        lost[left], reached[left] = ~known, held.number
        within, beyond = known & (root < most[left]), known & (root >= most[left])
        there, here = left[beyond], left[within]
        outside[there], outside_root[there] = held.number[beyond], root[beyond]
        inside[here], inside_root[here], theta[here] = held.number[within], root[within], held.theta[within]
        left = left[known & ~(np.abs(root / most[left] - 1) < CLOSE)]
        if not len(left):
            break
        share = np.clip((most - inside_root) / (outside_root - inside_root), 0.05, 0.95)
        further = at + (inside - at) * np.clip(1.1 * most / np.maximum(inside_root, 1e-9), 1.3, 3.0)
        further = np.where(inside == at, at + 3 * far, further)
        target[left] = np.where(np.isfinite(outside), inside + (outside - inside) * share, further)[left]
    share = np.clip((most - inside_root) / (outside_root - inside_root), 0.0, 1.0)
    stuck = ~lost & (np.abs(reached - target) > 0.5 * np.abs(target - at))  # pulled on, and did not come: a bound
    unbounded = np.where(stuck | (np.abs(inside_root / most - 1) < CLOSE), inside, sign * np.inf)
    return np.where(np.isfinite(outside), inside + (outside - inside) * share, unbounded)

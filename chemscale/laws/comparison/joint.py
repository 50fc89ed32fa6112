"""One form for several groups of runs at once, each of its parameters either shared or one per group.

Groups are numbered, the reference first. Runs of all groups share one centre and one scale, so that a parameter is the
same number for two groups exactly when their laws share it. The last column of x (n, axes + 1) is the group's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from chemscale.laws.forms.form import Derivatives, Form, Model
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from chemscale.laws.tables.table import Rows

GAUSSIAN = Objective("log_lsq")  # the likelihood of log-normal noise; tests of nested models need one


@dataclass(frozen=True, eq=False)
class Joint(Form):
    """`each` for every group, the solver's parameters named in `free` one per group, the others shared.

    anchors (k, groups, P): parameters of the groups that the search starts from. `tied` lists (group, parameter) that
    take the reference's value although the parameter is free elsewhere. noise_floors (groups,): the measured floor of
    each group's losses on the solver's scale; a shared floor lies above them all.
    """

    each: Form
    groups: int
    free: tuple[str, ...]
    anchors: Array = field(default_factory=lambda: np.zeros((0, 1, 1)), repr=False)
    tied: tuple[tuple[int, str], ...] = ()
    noise_floors: tuple[float, ...] = ()

    name = "joint"
    equation = "one form per group, with shared parameters"
    axes = ()

    @cached_property
    def index(self) -> np.ndarray:
        """Where each group's parameters are in theta, (groups, P)."""
        out = np.zeros((self.groups, len(self.each.inner)), int)
        count = 0
        for p, name in enumerate(self.each.inner):
            for g in range(self.groups):
                own = name in self.free and g and (g, name) not in self.tied
                out[g, p] = out[0, p] if g and not own else count
                count += g == 0 or own
        return out

    @property
    def inner(self) -> tuple[str, ...]:
        names = [""] * (int(self.index.max()) + 1)
        for g in reversed(range(self.groups)):
            for p, name in enumerate(self.each.inner):
                names[self.index[g, p]] = f"{name}[{g}]" if name in self.free else name
        return tuple(names)

    @property
    def fitted(self) -> int:
        """How many parameters are fitted."""
        return int(self.index.max()) + 1

    @property
    def upper(self) -> Array:
        out = np.empty(self.fitted)
        out[self.index] = self.each.upper
        return out

    def lower(self, noise_floor: float = 0.0) -> Array:
        out = np.full(self.fitted, -np.inf)
        for g, floor in enumerate(self.noise_floors or (noise_floor,) * self.groups):
            np.maximum.at(out, self.index[g], self.each.lower(floor))
        return out

    def bind(self, x: Array) -> JointModel:
        return JointModel(self, x)

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        return np.array([self.gather(anchor) for anchor in self.anchors])

    def sample(self, x: Array, count: int) -> np.ndarray:
        """So many of each group that none is missed."""
        mixed = np.random.default_rng(0).permutation(len(x))
        code = x[mixed, -1]
        every = [mixed[code == group][: max(count // self.groups, 1)] for group in np.unique(code)]
        return np.sort(np.concatenate(every))

    def gather(self, own: Array) -> Array:
        """theta from each group's parameters (groups, P); what is shared starts at their mean."""
        total, count = np.zeros(len(self.inner)), np.zeros(len(self.inner))
        np.add.at(total, self.index, own)
        np.add.at(count, self.index, 1.0)
        return total / np.maximum(count, 1.0)

    def spread(self, theta: Array, group: int) -> Array:
        """One group's parameters, (B, P), of theta (B, Q)."""
        return theta[:, self.index[group]]

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        out = {}
        for g in range(self.groups):
            own = self.each.published(self.spread(theta, g), centre, log_scale)
            out |= {f"{name}[{g}]": values for name, values in own.items()}
        return out

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {
            f"{amplitude}[{g}]": tuple(f"{name}[{g}]" for name in needs)
            for g in range(self.groups)
            for amplitude, needs in self.each.partners.items()
        }

    def exponent_of(self, role: str) -> str:
        return f"{self.each.exponent_of(role)}[0]"


class JointModel(Model):
    """Each group's own model at its own runs."""

    def __init__(self, form: Joint, x: Array) -> None:
        code = x[:, -1].round().astype(int)
        self.form, self.runs = form, len(x)
        chosen = [(g, np.flatnonzero(code == g)) for g in range(form.groups)]
        self.parts = [(g, rows, form.each.bind(x[rows, :-1])) for g, rows in chosen if len(rows)]

    def log_fit(self, theta: Array) -> Array:
        out = np.empty((len(theta), self.runs))
        for g, rows, model in self.parts:
            out[:, rows] = model.log_fit(self.form.spread(theta, g))
        return out

    def derivatives(self, theta: Array) -> Derivatives:
        log_fit = np.empty((len(theta), self.runs))
        jacobian = np.zeros((len(theta), self.runs, theta.shape[1]))
        found = []
        for g, rows, model in self.parts:
            at = model.derivatives(self.form.spread(theta, g))
            place = self.form.index[g]
            log_fit[:, rows] = at.log_fit
            jacobian[:, rows[:, None], place] = at.jacobian
            found.append((rows, place, at))

        def curvature(v: Array) -> Array:
            hessian = np.zeros((len(theta), theta.shape[1], theta.shape[1]))
            for rows, place, at in found:
                hessian[:, place[:, None], place] += at.curvature(v[:, rows])
            return hessian

        return Derivatives(log_fit, jacobian, curvature)


@dataclass(frozen=True, eq=False)
class Pool:
    """Runs of several groups, ready to be fitted together.

    names (groups,), the reference first; x (n, axes + 1); log_loss, weights (n,); clusters (n,) numbers the runs whose
    errors move together, within a group: an error that groups share would cancel in their difference, so this errs to
    the wide side. centre (axes,) and log_scale as in `Problem`; noise_floors (groups,) in the loss's unit.
    """

    each: Form
    names: tuple[str, ...]
    x: Array
    log_loss: Array
    weights: Array
    clusters: np.ndarray
    centre: Array
    log_scale: float
    noise_floors: tuple[float, ...]

    @classmethod
    def of(cls, form: Form, parts: dict[str, Rows]) -> Pool:
        """The runs of each group, in the order given."""
        logs = np.concatenate([np.log(part.stacked(form.roles)) for part in parts.values()])
        log_loss = np.concatenate([np.log(part.loss) for part in parts.values()])
        weights = np.concatenate([part.weights for part in parts.values()])
        code = np.concatenate([np.full(len(part), g) for g, part in enumerate(parts.values())])
        labels = [(g, c) for g, part in enumerate(parts.values()) for c in part.clusters.tolist()]
        number = {label: k for k, label in enumerate(dict.fromkeys(labels))}
        centre, scale = form.centre(logs), float(log_loss.mean())
        return cls(
            form, tuple(parts), np.column_stack([logs - centre, code]), log_loss - scale, weights / weights.mean(),
            np.array([number[label] for label in labels]), centre, scale,
            tuple(part.noise_floor for part in parts.values()),
        )  # fmt: skip

    @property
    def code(self) -> np.ndarray:
        """Each run's group, (n,)."""
        return self.x[:, -1].astype(int)

    def problem(self, form: Form, group: int | None = None) -> Problem:
        """A form at all runs, or at those of one group; `form` is joint, or `each` without the groups."""
        chosen: Any = slice(None) if group is None else self.code == group
        floor = min(self.noise_floors) if group is None else self.noise_floors[group]
        x = self.x if isinstance(form, Joint) else self.x[:, :-1]
        return Problem(
            form,
            GAUSSIAN,
            x[chosen],
            self.log_loss[chosen],
            self.weights[chosen],
            self.centre,
            self.log_scale,
            floor,
        )

    def joint(self, free: Sequence[str], anchors: Array, tied: Sequence[tuple[int, str]] = ()) -> Joint:
        """The joint form with the parameters `free` one per group but for `tied`."""
        ordered = tuple(name for name in self.each.inner if name in free)
        floors = tuple(float(floor / np.exp(self.log_scale)) for floor in self.noise_floors)
        return Joint(self.each.roles, self.each, len(self.names), ordered, anchors, tuple(tied), floors)

    def anchors(self) -> Array:
        """Parameters to start from, (2, groups, P): all groups under one law, and each under its own."""
        together = solve(self.problem(self.each))
        alone = [solve(self.problem(self.each, g)) for g in range(len(self.names))]
        return np.array([np.repeat(together[None], len(alone), axis=0), alone])

    def weighted(self, by_group: Sequence[float]) -> Pool:
        """The same runs with each group's weights multiplied."""
        weights = self.weights * np.asarray(by_group)[self.code]
        return replace(self, weights=weights / weights.mean())

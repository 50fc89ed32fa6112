"""Bootstrap draws of large tables: one Gauss-Newton step from the fit instead of a whole refit.

With many runs a draw lies so near the fit that one step has the distribution of the refit (Davidson and MacKinnon 1999;
Andrews 2002, theorem 1: the error of a k-step bootstrap falls as n^-(k+1)/2), and its two sums over the runs are matrix
products. A robust penalty bends only at its corner: its curvature is the share of runs within a window about zero
(Powell 1984), as the density of the noise there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from chemscale.laws.doubt.residuals import free
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem

WINDOW = 0.3  # of a typical residual: wide enough to hold a few thousand runs, narrow beside the noise
FREE = 1e-12  # of a parameter's own information, under which a direction is unknown and not stepped along


@dataclass(frozen=True)
class Stepper:
    """Steps from a fit: slopes of the log fit in the parameters that are free to move, (n, F), and their products."""

    problem: Problem
    theta: Array
    fitted: Array
    moving: np.ndarray
    jacobian: Array
    products: Array  # (n, F^2)
    corner: float

    @classmethod
    def at(cls, problem: Problem, theta: Array) -> Stepper:
        """From the fit theta (P,)."""
        here = problem.model.derivatives(theta[None])
        moving = free(problem, theta)
        jacobian = here.jacobian[0][:, moving]
        size = float(np.median(np.abs(problem.log_loss - here.log_fit[0])))
        products = (jacobian[:, :, None] * jacobian[:, None, :]).reshape(len(jacobian), -1)
        return cls(problem, theta, here.log_fit[0], moving, jacobian, products, max(WINDOW * size, 1e-12))

    def reweighted(self, weights: Array) -> Array:
        """Draws of runs by their weights (B, n): (B, P)."""
        totals = weights @ self._own
        size = len(self.moving)
        return self._moved(totals[:, :size], totals[:, size:])

    @cached_property
    def _own(self) -> Array:
        """Each run's part of the gradient and of what stands for the curvature, (n, F + F^2)."""
        first, bend = self._slopes(self.problem.log_loss[None])
        return np.concatenate([first[0, :, None] * self.jacobian, bend[0, :, None] * self.products], axis=1)

    def disturbed(self, errors: Array) -> Array:
        """Draws of the log losses, the fitted ones plus errors (B, n): (B, P)."""
        first, bend = (self.problem.weights * part for part in self._slopes(self.fitted + errors))
        return self._moved(first @ self.jacobian, bend @ self.products)

    def _slopes(self, log_loss: Array) -> tuple[Array, Array]:
        """First derivatives of the penalties in the log fit, and what stands for the second, (B, n)."""
        goal = self.problem.objective
        first = goal.slopes(log_loss, self.fitted).first
        if not goal.robust:
            return first, goal.slopes(log_loss, self.fitted).majorant
        corner = max(self.corner, goal.delta if goal.name == "huber" else 0.0)
        height = (goal.delta if goal.name == "huber" else 1.0) / corner
        inside = replace(goal, name="huber", delta=corner).slopes(log_loss, self.fitted).second
        return first, height * inside

    def _moved(self, gradient: Array, bend: Array) -> Array:
        size = len(self.moving)
        hessian = bend.reshape(-1, size, size)
        scale = 1 / np.sqrt(np.maximum(np.einsum("bpp->bp", hessian), 1e-300))
        roots, axes = np.linalg.eigh(hessian * scale[:, :, None] * scale[:, None, :])
        along = np.einsum("bpq,bp->bq", axes, gradient * scale) / np.where(roots > FREE, roots, np.inf)
        theta = np.repeat(self.theta[None], len(gradient), axis=0)
        theta[:, self.moving] -= scale * np.einsum("bpq,bq->bp", axes, along)
        return np.clip(theta, self.problem.lower, self.problem.form.upper)

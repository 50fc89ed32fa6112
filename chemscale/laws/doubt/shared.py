"""Clusters of runs whose shared noise a law takes up itself, so that no residual shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.numbers import parameters_of
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.tangent import Tangent
from chemscale.laws.tables.table import Rows

TAKEN_UP = 0.05  # share of a parameter's variance on which single clusters decide, above which they are given up


def as_told(problem: Problem, theta: Array, runs: Rows) -> Rows:
    """The runs, each a cluster of its own and with a warning, where whole clusters differ by what the law takes up.

    Three subsets of data are as many as a floor, an amplitude and an exponent pass through, so that the errors of each
    subset's runs sum to nothing whatever they share. Intervals from such sums would be far too narrow.
    """
    count = int(runs.clusters.max()) + 1
    if count == len(runs):
        return runs
    tangent = Tangent.at(
        problem.model, Objective("log_lsq"), problem.log_loss[None], problem.weights[None], theta[None], runs.clusters
    )
    slopes = {name: number.gradient(theta[None]) for name, number in parameters_of(problem).items()}
    taken = [name for name, slope in slopes.items() if tangent.decided(slope)[0] > TAKEN_UP]
    if not taken:
        return runs
    note = (
        f"{', '.join(taken)} can pass through each of the {count} clusters that the runs form, so that noise which the "
        "runs of a cluster share cannot be told from the law: intervals take each run's noise as its own, and are too "
        "narrow where it is not; runs of another seed and subset at the same sizes would tell"
    )
    return replace(runs, clusters=np.arange(len(runs)), warnings=(*runs.warnings, note))

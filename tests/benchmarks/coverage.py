"""Coverage of nominal 95 % intervals, by method, over designs and kinds of noise.

    python -m tests.benchmarks.coverage [--tables 300] [--objective log_lsq] [--methods profile,wald] [--sides 4,5,6]

Grids of 4 x 4 to 6 x 6 runs over three decades of parameters and data around the published Chinchilla law, 1 % noise:
normal; Student's t with 3 and 4 degrees of freedom; heteroscedastic (three times larger at the smallest run than at the
largest); clusters (half of the variance shared by the runs of one row of the grid, one subset of the data); and a law
without a floor (E = 0), where coverage of E is one-sided. Entries are percent ± binomial standard error.
"""

import argparse
import time

import numpy as np

from chemscale.laws.doubt.calibrate import SIMULATED, calibrate
from chemscale.laws.doubt.coverage import Calibration
from chemscale.laws.forms import choose
from chemscale.laws.objectives import Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from chemscale.laws.tables.table import rows
from tests.laws.planted import TRUTH, grid

CASES = ("normal", "t3", "t4", "heteroscedastic", "clusters", "no floor")
POINTS = ({"params": 3e7, "data": 3e9}, {"params": 1e10, "data": 1e12})  # in the middle; ten times beyond in both


def simulate(side: int, case: str, objective: str, methods: tuple[str, ...], count: int) -> Calibration:
    """Coverage for a grid of side x side runs."""
    floor = 0.0 if case == "no floor" else TRUTH["E"]
    table = grid(np.geomspace(1e6, 1e9, side), np.geomspace(1e8, 1e11, side), noise=0.01, E=floor)
    if case == "clusters":
        table["cluster"] = np.arange(side**2) // side
    runs = rows({name: list(values) for name, values in table.items()}, {"params": "params", "data": "tokens"}, "loss")
    problem = Problem.over(choose("chinchilla", ("params", "data")), Objective(objective), runs)
    noise = "normal" if case == "no floor" else case
    truth = {**TRUTH, "E": floor}
    return calibrate(problem, solve(problem), runs, count=count, noise=noise, methods=methods, truth=truth,
                     at=POINTS)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage of intervals")
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--objective", default="log_lsq")
    parser.add_argument("--methods", default=",".join(SIMULATED))
    parser.add_argument("--sides", default="4,5,6")
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args()
    print(f"{options.tables} tables each, objective {options.objective}, nominal 95 %", flush=True)
    for side in map(int, options.sides.split(",")):
        for case in options.cases.split(","):
            begin = time.process_time()
            found = simulate(side, case, options.objective, tuple(options.methods.split(",")), options.tables)
            print(
                f"\n{side} x {side}, {case} ({time.process_time() - begin:.0f} s of CPU)\n{found.table()}", flush=True
            )


if __name__ == "__main__":
    main()

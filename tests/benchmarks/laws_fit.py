"""Time of a Chinchilla fit and of its bootstrap, against scipy's L-BFGS-B from many starts on the same objective.

    python -m tests.benchmarks.laws_fit [--runs 250] [--starts 500]

The rival is the usual way (Hoffmann et al. 2022 and their replications): parameters (log E, log A, log B, alpha,
beta), a grid of starts, numerical gradients. 4,500 starts are customary; fewer are timed and the time is scaled.
Prints one line per quantity: ours, theirs, ratio, and how far their best objective lies above ours.
"""

import argparse
import platform
import time
from itertools import product

import numpy as np
from scipy.optimize import minimize

from chemscale.laws.doubt.draws import Sampler
from chemscale.laws.doubt.noise import Noise
from chemscale.laws.forms import choose
from chemscale.laws.objectives import Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve

CUSTOMARY = 4500
SCALE = 1e4  # without which L-BFGS-B stops where it starts on Huber's delta of 1e-3


def planted(runs: int) -> Problem:
    """Runs around the published Chinchilla law with 1 % noise."""
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(7, 10, runs), 10 ** rng.uniform(9, 12, runs)
    loss = (1.69 + 406.4 / n**0.34 + 410.7 / d**0.28) * np.exp(rng.normal(0, 0.01, runs))
    form = choose("chinchilla", ("params", "data"))
    return Problem.of(form, Objective("huber", 1e-3), np.stack([n, d], 1), loss, np.ones(runs))


def rival(problem: Problem, starts: int) -> tuple[float, float]:
    """Lowest objective over a grid of starts, and seconds of processor time."""
    log_n, log_d = (problem.x + problem.centre).T
    log_loss = problem.log_loss + problem.log_scale

    def objective(p: np.ndarray) -> float:
        terms = np.stack([np.full_like(log_n, p[0]), p[1] - p[3] * log_n, p[2] - p[4] * log_d])
        return SCALE * problem.objective.penalty(log_loss, np.logaddexp.reduce(terms)).sum()

    grid = product(np.linspace(-1, 1, 5), np.linspace(0, 25, 6), np.linspace(0, 25, 6), *[np.linspace(0, 2, 5)] * 2)
    every = np.array(list(grid))
    chosen = every[np.random.default_rng(0).permutation(len(every))[:starts]]
    begin = time.process_time()
    lowest = min(minimize(objective, p, method="L-BFGS-B").fun for p in chosen)
    return lowest / SCALE, time.process_time() - begin


def best_of(times: int, work) -> float:
    """Least processor time of a few calls, seconds: the machine may be shared."""
    seconds = []
    for _ in range(times):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="time of a fit against many starts of L-BFGS-B")
    parser.add_argument("--runs", type=int, default=250)
    parser.add_argument("--starts", type=int, default=500)
    options = parser.parse_args()
    problem = planted(options.runs)
    theta = solve(problem)
    ours, value = best_of(5, lambda: solve(problem)), float(problem.value(theta[None])[0])
    lowest, spent = rival(problem, options.starts)
    theirs = spent * CUSTOMARY / options.starts
    clusters = np.arange(options.runs)
    sampler = Sampler(problem, theta, clusters, Noise.fitted(problem, theta, clusters), np.zeros(options.runs))
    draws = best_of(2, lambda: sampler.draw("pairs", 1000, 0))
    print(f"{platform.processor() or platform.machine()}, {options.runs} runs, Huber 1e-3, numpy {np.__version__}")
    print(f"fit: {ours * 1e3:.0f} ms; L-BFGS-B from {CUSTOMARY} starts (scaled): {theirs:.0f} s; {theirs / ours:.0f}x")
    print(f"objective: ours {value:.12g}; best of {options.starts} starts {lowest:.12g} ({lowest / value - 1:+.1e})")
    print(f"1,000 bootstrap refits: {draws:.2f} s, {draws:.2f} ms each; one start of the rival: "
          f"{1e3 * spent / options.starts:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()

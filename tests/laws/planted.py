"""Planted laws: tables whose truth is known."""

import numpy as np

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}  # Hoffmann et al. 2022, approach 3


def chinchilla(params, data, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28):
    return E + A / params**alpha + B / data**beta


def grid(sizes, amounts, *, noise=0.0, seed=0, repeats=1, law=chinchilla, **truth):
    """A grid of runs with log-normal noise, as a dict of columns."""
    n, d = (axis.ravel().repeat(repeats) for axis in np.meshgrid(sizes, amounts))
    loss = law(n, d, **truth) * np.exp(np.random.default_rng(seed).normal(0, noise, len(n)))
    return {"params": n, "tokens": d, "loss": loss}


def wide(*, noise=0.0, seed=0, repeats=1, side=6):
    """Three decades of each axis around the published runs."""
    return grid(np.geomspace(1e7, 1e10, side), np.geomspace(1e9, 1e12, side), noise=noise, seed=seed, repeats=repeats)


def effective(unique, seen, worth):
    """D' = U + U R* (1 - exp(-R/R*)), R = seen/U - 1 (Muennighoff et al. 2023, equation 5)."""
    return unique + unique * worth * (1 - np.exp(-(seen / unique - 1) / worth))


def repeated(n, unique, seen, E, A, B, alpha, beta, R_D_star, R_N_star):
    """Muennighoff et al. 2023, equations 5 to 7, in the units of the columns."""
    best = (alpha * A / (beta * B) * unique**beta) ** (1 / alpha)
    params = effective(np.minimum(n, best), n, R_N_star)
    return E + A / params**alpha + B / effective(unique, seen, R_D_star) ** beta


MESH = [a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6))]
CUBE = [
    a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e8, 1e10, 4), [1, 2, 4, 12, 40, 150.0])
]
LINE = [np.geomspace(1e3, 1e9, 40)]

# form, axes -> their values, the equation of the form's paper, its parameters by their names
PLANTED = {
    ("power", ("params", "data")): (MESH, lambda n, d, A, B, alpha, beta: A / n**alpha + B / d**beta,
                                    {"A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}),
    ("power_floor", ("data",)): (LINE, lambda x, E, A, alpha: E + A / x**alpha, {"E": 0.4, "A": 9.0, "alpha": 0.3}),
    ("kaplan", ("params", "data")): (
        MESH, lambda n, d, N_c, D_c, alpha, beta: ((N_c / n) ** (alpha / beta) + D_c / d) ** beta,
        {"N_c": 8.8e13, "D_c": 5.4e13, "alpha": 0.076, "beta": 0.095}),  # Kaplan et al. 2020, 1.1 and 1.2
    ("chinchilla", ("params", "data")): (MESH, chinchilla, TRUTH),
    ("tied", ("params", "data")): (MESH, lambda n, d, E, A, B, alpha: E + A / n**alpha + B / d**alpha,
                                   {"E": 1.69, "A": 406.4, "B": 1500.0, "alpha": 0.34}),
    ("gamma", ("params", "data")): (
        MESH, lambda n, d, E, A, B, alpha, beta, gamma: E + (A / n**alpha + B / d**beta) ** gamma,
        {"E": 1.5, "A": 4000.0, "B": 40000.0, "alpha": 0.5, "beta": 0.45, "gamma": 0.6}),
    ("varying", ("params", "data")): (
        MESH, lambda n, d, E, A, B, alpha, beta, kappa, N_0, D_0:
        E + A / n**alpha + B * (d / D_0) ** -(beta + kappa * np.log10(n / N_0)),
        {"E": 1.69, "A": 406.4, "B": 0.3, "alpha": 0.34, "beta": 0.28, "kappa": 0.05,
         "N_0": 10**8.5, "D_0": 10**10.5}),  # the middle of the grid
    ("repeated", ("params", "data", "seen")): (
        [CUBE[0], CUBE[1], CUBE[1] * CUBE[2]], repeated,
        {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.35, "R_D_star": 15.4, "R_N_star": 5.3}),
    ("bnsl", ("data",)): (
        LINE, lambda x, E, A, c0, c1, d1, f1: E + A * x**-c0 * (1 + (x / d1) ** (1 / f1)) ** (-c1 * f1),
        {"E": 0.2, "A": 5.0, "c0": 0.1, "c1": 0.5, "d1": 3e5, "f1": 0.6}),
    ("hill", ("data",)): (LINE, lambda x, E, L_0, x_0, alpha: E + (L_0 - E) / (1 + (x / x_0) ** alpha),
                          {"E": 0.2, "L_0": 4.0, "x_0": 3e4, "alpha": 0.6}),
    ("quadrature", ("data",)): (LINE, lambda x, s, A, alpha: np.hypot(s, A / x**alpha),
                                {"s": 0.02, "A": 9.0, "alpha": 0.4}),
    ("quadrature", ("params", "data")): (
        MESH, lambda n, d, s, A, B, alpha, beta: np.hypot(s, A / n**alpha + B / d**beta),
        {"s": 0.1, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}),
}  # fmt: skip


def runs_of(form, roles, *, noise=0.0, seed=0, units=(1.0, 1.0)):
    """Axes (n, roles) and losses of a planted form, in `units` of the axes and of the loss."""
    axes, law, truth = PLANTED[form, roles]
    loss = law(*axes, **truth) * np.exp(np.random.default_rng(seed).normal(0, noise, len(axes[0])))
    return np.stack(axes, 1) * units[0], loss * units[1]

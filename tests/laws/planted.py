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

"""Tables of a stranger: a clean one, and what spoils it."""

import numpy as np

from tests.laws.planted import chinchilla


def clean(noise=0.004, seed=0):
    """Five sizes by five amounts over three decades, two seeds each, one learning rate from a rule."""
    rng = np.random.default_rng(seed)
    n, d = (axis.ravel().repeat(2) for axis in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    loss = chinchilla(n, d) * np.exp(rng.normal(0, noise, len(n)))
    return {"n": n, "d": d, "loss": loss, "seed": np.tile([0, 1], 25), "who": np.array(["a"] * 50)}


def searched(lowest=1e-3, rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2)):
    """One seed of the grid, with a search over learning rates whose best is the one nearest to `lowest`."""
    table = {name: values[::2] for name, values in clean().items() if name != "who"}
    parts = []
    for rate in rates:
        worse = 1 + 0.05 * np.log10(rate / lowest) ** 2
        parts.append({**table, "lr": np.full(25, rate), "valid_loss": 1.01 * table["loss"] * worse})
        parts[-1]["loss"] = table["loss"] * worse
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

"""What becomes of exponents when some runs were stopped: dropped, taken as final, one-sided, or imputed.

    python -m tests.benchmarks.censoring [--tables 200]

Estimand: the exponents of the law of the median final loss over seeds, at tuned hyperparameters, had every run been
trained to its end. 6 x 6 cells with 3 seeds each around the published Chinchilla law, 2 % noise, least squares of logs.

- target: the budget of a run ends when its loss reaches 2.35, so the final losses below are only bounded; the lucky
  seeds are stopped
- rivals: in the upper half of the cells, the seeds behind at half time are stopped at a loss 5 to 15 % above
  their end; the unlucky seeds are stopped. A one-sided term knows no more here than dropping: it has to be imputed.

A forecast of a stopped run's end is off by 1 %, and says so. Prints mean bias with its standard error, and the root
mean squared error, of each exponent.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from chemscale.laws import fit
from tests.laws.planted import TRUTH, grid

TARGET = 2.35
AHEAD = 0.01  # log error of a forecast
WAYS = ("complete", "dropped", "as if final", "one-sided", "imputed")


def stopped(kind: str, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A table whose `loss` is what was seen, and the final losses, (n,)."""
    rng = np.random.default_rng(seed)
    table = grid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6), noise=0.02, seed=seed, repeats=3)
    final = table["loss"].copy()
    if kind == "target":
        bound = final < TARGET
        seen = np.maximum(final, TARGET)
    else:
        large = table["params"] * table["tokens"] >= np.median(table["params"] * table["tokens"])
        behind = final.reshape(-1, 3) > np.median(final.reshape(-1, 3), axis=1, keepdims=True) - 1e-12
        bound = behind.ravel() & large
        seen = np.where(bound, final * np.exp(rng.uniform(0.05, 0.15, len(final))), final)
    forecast = final * np.exp(rng.normal(0, AHEAD, len(final)))
    about = {"forecast_loss": forecast, "forecast_low": forecast * np.exp(-1.96 * AHEAD)}
    about["forecast_high"] = forecast * np.exp(1.96 * AHEAD)
    return {**table, "loss": seen, "bound": bound, **about}, final


def tables(kind: str, seed: int) -> Iterator[tuple[str, dict[str, np.ndarray], str | None]]:
    """Each way's table and its `censored` column."""
    table, final = stopped(kind, seed)
    plain = {name: table[name] for name in ("params", "tokens", "loss", "bound")}
    yield "complete", {**plain, "loss": final}, None
    yield "dropped", {name: values[~table["bound"]] for name, values in plain.items()}, None
    yield "as if final", plain, None
    yield "one-sided", plain, "bound"
    yield "imputed", table, "bound"


def errors(kind: str, count: int) -> dict[str, np.ndarray]:
    """Fitted less true (alpha, beta) of every table, by way: (count, 2)."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    options = {"data": "tokens", "loss": "loss", "objective": "log_lsq", "bootstrap": 0}
    for seed in range(count):
        for way, table, censored in tables(kind, seed):
            law = fit(table, params="params", censored=censored, **options)
            values = law.shape.published(law.solution.theta[None], law.solution.centre, law.solution.log_scale)
            found[way].append([float(values[name][0]) - TRUTH[name] for name in ("alpha", "beta")])
    return {way: np.array(values) for way, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="bias of exponents where runs were stopped")
    parser.add_argument("--tables", type=int, default=200)
    options = parser.parse_args()
    print(f"{options.tables} tables; truth alpha {TRUTH['alpha']}, beta {TRUTH['beta']}; bias ± standard error (rmse)")
    for kind in ("target", "rivals"):
        for way, error in errors(kind, options.tables).items():
            bias, sure = error.mean(0), error.std(0) / np.sqrt(len(error))
            rmse = np.sqrt((error**2).mean(0))
            shown = [f"{n} {bias[i]:+.4f} ± {sure[i]:.4f} ({rmse[i]:.4f})" for i, n in enumerate(("alpha", "beta"))]
            print(f"{kind:<8} {way:<12} " + "   ".join(shown))


if __name__ == "__main__":
    main()

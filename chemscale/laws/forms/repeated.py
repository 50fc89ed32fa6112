"""Data seen more than once: what a repeat is still worth, and what parameters beyond the data's need are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from chemscale.laws.errors import FitError
from chemscale.laws.forms.chain import TINY, Floored, Part, chain, log_parameter, parameter
from chemscale.laws.forms.form import MAX_EXPONENT, Derivatives, Form, Model
from chemscale.laws.forms.projection import amplitudes, looked_at, spread_evenly
from chemscale.laws.objectives import Array

LEAST, MOST = 1e-4, 1e2  # of 1/R*: repeats of the runs at hand are as good as new ones, or worth nothing
PHI = (1, -1 / 2, 1 / 6, -1 / 24, 1 / 120, -1 / 720)  # coefficients of y^0, y^1, ...
PHI_1 = (-1 / 2, 1 / 3, -1 / 8, 1 / 30, -1 / 144, 1 / 840)
PHI_2 = (1 / 3, -1 / 4, 1 / 10, -1 / 36, 1 / 168)
SATED = 60.0  # natural logs beyond what the data need, where more parameters have long been worth nothing
STARTS = 800
LOWEST_START = np.array([0.03, 0.03, 1e-3, 1e-3])  # alpha, beta, 1/R_D*, 1/R_N*
HIGHEST_START = np.array([2.0, 2.0, 20.0, 20.0])
REPEATED = 0.01  # share beyond the first pass below which no run repeats its data
CELL = 6  # decimals of logarithms to which runs of one cell agree: unique data may be a quotient
RISE = 1.02  # of a loss over that of fewer passes, from which it is no noise


def repeats(x: Array) -> tuple[Array, Array]:
    """Log of the unique units used and repeats R_D = seen/unique - 1, each (n,).

    A run that stops within its first pass has used no more than it has seen.
    """
    unique = np.minimum(x[:, 1], x[:, 2])
    return unique, np.expm1(x[:, 2] - unique)


def log_worth(repeat: Array, rate: Array) -> Array:
    """log(1 + m), m = (1 - exp(-R rate))/rate."""
    return np.log1p(-np.expm1(-repeat * rate) / rate)


def worth(repeat: Array, rate: Array) -> tuple[Array, ...]:
    """log(1 + m), m = (1 - exp(-R rate))/rate, and its derivatives in R, rate, RR, R rate, rate rate."""
    y = repeat * rate
    gone = np.exp(-y)
    small = np.abs(y) < 1e-2
    safe = np.where(small, 1.0, y)
    # m = R phi(y), phi = (1 - e^-y)/y; below 1e-2 its series, good to 1e-13
    phi = np.where(small, _series(y, PHI), -np.expm1(-safe) / safe)
    phi1 = np.where(small, _series(y, PHI_1), (gone - phi) / safe)
    phi2 = np.where(small, _series(y, PHI_2), (-gone - 2 * phi1) / safe)
    total = 1 + repeat * phi
    by_repeat, by_rate = gone / total, repeat * repeat * phi1 / total
    return (
        np.log(total), by_repeat, by_rate, -rate * gone / total - by_repeat**2,
        -repeat * gone / total - by_repeat * by_rate, repeat * repeat * repeat * phi2 / total - by_rate**2,
    )  # fmt: skip


def _series(y: Array, coefficients: tuple[float, ...]) -> Array:
    """A power series by Horner's rule."""
    total = np.full_like(y, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * y + coefficient
    return total


class RepeatedModel(Model):
    """log(exp(u) + exp(w)), u = log a - p log N', w = log b - q log D', theta = (a, b, p, q, 1/R_D*, 1/R_N*)."""

    def __init__(self, x: Array) -> None:
        self.params = x[:, 0]
        self.unique, self.repeat = repeats(x)

    def excess(self, theta: Array) -> Array:
        """t = log N - log U_N, above zero where there are more parameters than the unique data need, (B, n)."""
        return self.params - self._line(theta) / theta[:, 2:3]

    def _line(self, theta: Array) -> Array:
        """alpha log U_N, from the compute-optimal line."""
        a, b, p, q = (theta[:, k : k + 1] for k in range(4))
        return np.log(p * a / (q * b)) + q * self.unique

    def log_fit(self, theta: Array) -> Array:
        a, b, p, q, repeated, wide = (column[:, None] for column in theta.T)
        t = np.maximum(self.excess(theta), 0.0)
        params = self.params - t + log_worth(np.expm1(np.minimum(t, SATED)), wide)
        data = self.unique + log_worth(self.repeat[None], repeated)
        return np.logaddexp(np.log(a) - p * params, np.log(b) - q * data)

    def derivatives(self, theta: Array) -> Derivatives:
        u, w = self._by_params(theta), self._by_data(theta)
        total = np.logaddexp(u.value, w.value)
        share = np.exp(u.value - total)
        bend = share * (1 - share)
        return chain(total, [share, 1 - share], [[bend], [-bend, bend]], [u, w]).derivatives

    def _by_data(self, theta: Array) -> Part:
        q = theta[:, 3:4]
        log, _, slope, _, _, bend = worth(self.repeat[None], theta[:, 4:5])
        parts = [log_parameter(theta, 1), *(parameter(theta, k) for k in (3, 4))]
        data = self.unique + log
        first = [1.0, -data, -q * slope]
        return chain(parts[0].value - q * data, first, [[0.0], [0.0, 0.0], [0.0, -slope, -q * bend]], parts)

    def _by_params(self, theta: Array) -> Part:
        """u = log a - p n + p k(t, rate), k = t - log(1 + m(e^t - 1)) beyond t = 0."""
        p, rate, t = theta[:, 2:3], theta[:, 5:6], self._excess(theta)
        over = t.value > 0
        repeat = np.expm1(np.clip(t.value, 0.0, SATED))
        log, r, s, rr, rs, ss = worth(repeat, rate)
        more = repeat + 1
        k, k_t, k_s = (np.where(over, v, 0.0) for v in (t.value - log, 1 - r * more, -s))
        k_tt, k_ts, k_ss = (np.where(over, v, 0.0) for v in (-rr * more**2 - r * more, -rs * more, -ss))
        parts = [log_parameter(theta, 0), parameter(theta, 2), t, parameter(theta, 5)]
        second = [[0.0], [0.0, 0.0], [0.0, k_t, p * k_tt], [0.0, k_s, p * k_ts, p * k_ss]]
        value = parts[0].value - p * (self.params - k)
        return chain(value, [1.0, k - self.params, p * k_t, p * k_s], second, parts)

    def _excess(self, theta: Array) -> Part:
        """`excess` with its derivatives in log a, log b, p, q."""
        p, q = theta[:, 2:3], theta[:, 3:4]
        parts = [log_parameter(theta, 0), log_parameter(theta, 1), parameter(theta, 2), parameter(theta, 3)]
        line, inverse = self._line(theta), 1 / p
        first = [-inverse, inverse, (line - 1) / p**2, (1 / q - self.unique) / p]
        second = [
            [0.0],
            [0.0, 0.0],
            [inverse**2, -(inverse**2), (3 - 2 * line) / p**3],
            [0.0, 0.0, (self.unique - 1 / q) / p**2, -1 / (q**2 * p)],
        ]
        return chain(self.params - line / p, first, second, parts)


@dataclass(frozen=True)
class Repeated(Form):
    """Chinchilla in effective parameters and data: L = E + A/N'^alpha + B/D'^beta.

    Muennighoff et al. 2023 (arXiv:2305.16264, equations 5 to 7). Of U unique units (`data`), seen R_D + 1 times each
    (`seen` = U (R_D + 1)), D' = U + U R_D* (1 - exp(-R_D/R_D*)): a repeat is worth ever less, and R_D* is about how
    many repeats the data bear. Likewise N' = U_N + U_N R_N* (1 - exp(-R_N/R_N*)), R_N = N/U_N - 1, where U_N is N or,
    if that is smaller, the parameters that suit U on the law's own compute-optimal line, alpha A N^-alpha =
    beta B U^-beta. R_D* and R_N* are pure numbers; data and seen have one unit. Runs that stop within their first pass
    count what they have seen as unique. R* is weakly identified: large where repeats are as good as new units, small
    where they are worth nothing; the solver works with 1/R*, between 1e-4 and 100.
    """

    name = "repeated"
    equation = "E + A/N'^alpha + B/D'^beta, D' = U + U R_D* (1 - exp(-R_D/R_D*))"
    basins = 64
    neighbours = 40
    axes = (3,)
    fixed_roles = ("params", "data", "seen")
    floor = "E"

    @property
    def inner(self) -> tuple[str, ...]:
        return ("E", "A", "B", "alpha", "beta", "rate_D", "rate_N")

    @property
    def upper(self) -> Array:
        return np.array([np.inf, np.inf, np.inf, MAX_EXPONENT, MAX_EXPONENT, MOST, MOST])

    def lower(self, noise_floor: float = 0.0) -> Array:
        return np.array([noise_floor, TINY, TINY, 1e-3, 1e-3, LEAST, LEAST])

    def centre(self, logs: Array) -> Array:
        """Data and seen share a centre, so that their ratio stays."""
        middle = logs.mean(0)
        return np.array([middle[0], middle[1], middle[1]])

    def refuse(self, axes: Mapping[str, Array]) -> None:
        if (axes["seen"] <= (1 + REPEATED) * axes["data"]).all():
            raise FitError("no run sees its data more than once, so the worth of repeats is unknown; fit chinchilla.")

    def misfits(self, axes: Mapping[str, Array], loss: Array) -> tuple[str, ...]:
        """Losses that rise with further passes over the same data: to this law a repeat is worth nothing at worst."""
        cells = np.round(np.log(np.stack([axes["params"], axes["data"]], axis=1)), CELL)
        rising, cell, lowest = 0, None, np.inf
        for k in np.lexsort((axes["seen"], cells[:, 1], cells[:, 0])):
            lowest = lowest if tuple(cells[k]) == cell else np.inf
            rising += loss[k] > RISE * lowest
            cell, lowest = tuple(cells[k]), min(lowest, loss[k])
        if not rising:
            return ()
        return (
            f"{rising} of {len(loss)} runs have a loss more than {RISE - 1:.0%} above that of a run of the same "
            "parameters and unique data that saw less of it: they overfit, which the repeated law cannot describe and "
            "which moves its exponents and worths; leave them out, or give each run's loss where it was lowest",
        )

    def bind(self, x: Array) -> Floored:
        return Floored(RepeatedModel(x))

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        """As if every parameter counted, with several worths of excess ones; then those that know the excess."""
        line = np.geomspace(0.05, 2.0, 7)
        shapes = np.array(list(product(line, line, (1e-3, 0.03, 0.1, 0.3, 1.0, 5.0))))
        kept = looked_at(log_loss)
        unique, repeat = repeats(x[kept])
        data = unique + log_worth(repeat[None], shapes[:, 2:])
        powers = np.stack([-shapes[:, :1] * x[kept, 0], -shapes[:, 1:2] * data], axis=2)
        features = np.exp(np.clip(np.insert(powers, 0, 0.0, axis=2), -300, 300))
        found = amplitudes(features, log_loss[kept], weights[kept])
        theta = np.concatenate([found, np.concatenate([shapes] * (len(found) // len(shapes)))], axis=1)
        every = [np.insert(theta, 6, rate, axis=1) for rate in (1e-3, 0.05, 0.3, 2.0)]
        return np.concatenate([*every, self._where_in_excess(x[kept], log_loss[kept], weights[kept])])

    def _where_in_excess(self, x: Array, log_loss: Array, weights: Array) -> Array:
        """Over exponents, worths, and the parameters N* that suit the middle data: E and one amplitude are left.

        There the compute-optimal line, alpha A N*^-alpha = beta B, ties B to A.
        """
        share = spread_evenly(STARTS, 5)
        shapes = LOWEST_START * (HIGHEST_START / LOWEST_START) ** share[:, :4]
        p, q, repeated, wide = (column[:, None] for column in shapes.T)
        suited = x[:, 0].min() - 1 + share[:, 4:] * (np.ptp(x[:, 0]) + 1)
        unique, repeat = repeats(x)
        over = np.maximum(x[:, 0] - suited - q / p * unique, 0.0)
        params = x[:, 0] - over + log_worth(np.expm1(np.minimum(over, SATED)), wide)
        data = unique + log_worth(repeat[None], repeated)
        tied = p / q * np.exp(-p * suited)
        powers = np.exp(np.clip(-p * params, -300, 300)) + tied * np.exp(np.clip(-q * data, -300, 300))
        found = amplitudes(np.stack([np.ones_like(powers), powers], axis=2), log_loss, weights)
        floor, a = found[:, :1], np.maximum(found[:, 1:], TINY)
        times = len(found) // len(shapes)
        return np.concatenate([floor, a, a * np.tile(tied, (times, 1)), np.tile(shapes, (times, 1))], axis=1)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        floor, a, b, alpha, beta, repeated, wide = theta.T
        scale = np.exp(log_scale)
        return {
            "E": floor * scale, "A": a * scale * np.exp(alpha * centre[0]), "B": b * scale * np.exp(beta * centre[1]),
            "alpha": alpha, "beta": beta, "R_D_star": 1 / repeated, "R_N_star": 1 / wide,
        }  # fmt: skip

    @property
    def must_vary(self) -> tuple[tuple[str, ...], ...]:
        return (("params",), ("data", "seen"))

    @property
    def moved_by(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("params",), "beta": ("data", "seen")}

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"A": ("alpha",), "B": ("beta",)}

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        named = {"alpha": "alpha", "beta": "beta", "R_D_star": "rate_D", "R_N_star": "rate_N", "E": "E"}
        return {name: (solved,) for name, solved in named.items()}

    def exponent_of(self, role: str) -> str:
        return "alpha" if role == "params" else "beta"

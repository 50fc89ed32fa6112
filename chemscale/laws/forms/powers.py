"""Forms that are sums of powers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.forms.sums import PowerSum, Term
from chemscale.laws.objectives import Array

AMPLITUDES = ("A", "B", "C")
EXPONENTS = ("alpha", "beta", "gamma")


class Power(PowerSum):
    """Powers without a floor: L = A x^-alpha; over several axes L = A N^-alpha + B D^-beta (+ C C^-gamma).

    Hestness et al. 2017 (arXiv:1712.00409) for one axis; Uni-Mol2 (Ji et al. 2024, arXiv:2406.14969) sums three.
    A, B, C carry the loss's unit times the axis's unit to the power of its exponent.
    """

    name = "power"
    equation = "A x^-alpha, or A N^-alpha + B D^-beta (+ C C^-gamma)"
    axes = (1, 2, 3)

    @property
    def terms(self) -> tuple[Term, ...]:
        return tuple(Term(a, ((role, e),)) for a, role, e in zip(AMPLITUDES, self.roles, EXPONENTS, strict=False))


class PowerFloor(PowerSum):
    """One axis with a floor: L = E + A x^-alpha; E in the loss's unit.

    The irreducible loss of Henighan et al. 2020 (arXiv:2010.14701, equation 1.1).
    """

    name = "power_floor"
    equation = "E + A x^-alpha"
    floor = "E"
    axes = (1,)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term("E"), Term("A", ((self.roles[0], "alpha"),)))


class Chinchilla(PowerSum):
    """Separate powers of parameters and data over a floor: L = E + A/N^alpha + B/D^beta.

    Hoffmann et al. 2022 (arXiv:2203.15556, equation 2). At fixed N D the optimum has N proportional to C^a and
    D to C^b with a = beta/(alpha+beta), b = alpha/(alpha+beta), and L - E falls as C^-(alpha beta/(alpha+beta)).
    """

    name = "chinchilla"
    equation = "E + A/N^alpha + B/D^beta"
    floor = "E"
    axes = (2,)
    fixed_roles = ("params", "data")

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term("E"), Term("A", (("params", "alpha"),)), Term("B", (("data", "beta"),)))


class Tied(PowerSum):
    """Chinchilla with one exponent for both axes: L = E + A/N^alpha + B/D^alpha.

    Gadre et al. 2024 (arXiv:2403.08540), with their C = 6 N D and M = D/N written out; their exponents are alpha/2.
    """

    name = "tied"
    equation = "E + A/N^alpha + B/D^alpha"
    floor = "E"
    axes = (2,)
    fixed_roles = ("params", "data")

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term("E"), Term("A", (("params", "alpha"),)), Term("B", (("data", "alpha"),)))


REACH = 2 * np.log(10.0)  # natural logs of N over which the exponent of D must stay positive


@dataclass(frozen=True)
class Varying(PowerSum):
    """An exponent of data that is linear in log N: L = E + A/N^alpha + B (D/D_0)^-(beta + kappa log10(N/N_0)).

    A light form of Farseer (Li et al. 2025, arXiv:2506.10972), whose exponent and amplitude of D are both functions
    of N. N_0 and D_0 are the geometric means of the fitted runs and part of the law: with them the fit is the same in
    any units, and B (in the loss's unit) and beta belong to the middle of the runs, where they are known best. kappa is
    per decade of N and of either sign. The exponent of D is positive for all N within two decades of N_0, because the
    solver works with its values at both ends of that range, b_low and b_high, each at least zero.
    """

    name = "varying"
    equation = "E + A/N^alpha + B (D/D_0)^-(beta + kappa log10(N/N_0))"
    axes = (2,)
    fixed_roles = ("params", "data")
    floor = "E"
    signed = ("kappa",)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term("E"), Term("A", (("params", "alpha"),)), Term("B", (("data", "b_low"), ("data", "b_high"))))

    def signs(self, x: Array) -> Array:
        out = np.zeros((3, len(x), 3))
        high = 0.5 * (1 + x[:, 0] / REACH)
        out[1, :, 0] = -x[:, 0]
        out[2, :, 1], out[2, :, 2] = -x[:, 1] * (1 - high), -x[:, 1] * high
        return out

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        floor, a, b, alpha, low, high = theta.T
        scale, one = np.exp(log_scale), np.ones(len(theta))
        return {
            "E": floor * scale, "A": a * np.exp(log_scale + alpha * centre[0]), "B": b * scale, "alpha": alpha,
            "beta": (low + high) / 2, "kappa": (high - low) / (2 * REACH / np.log(10.0)),
            "N_0": one * np.exp(centre[0]), "D_0": one * np.exp(centre[1]),
        }  # fmt: skip

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"A": ("alpha",), "B": ("beta",), "kappa": ("beta",)}

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("alpha",), "beta": (), "kappa": ("b_low", "b_high"), "E": ("E",)}

    def exponent_of(self, role: str) -> str:
        return "alpha" if role == "params" else "beta"

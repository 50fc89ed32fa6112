"""The functional forms a law can take: each with its algebra, units and paper. Adding one is one class in `FORMS`.

N params, D data, C flops, x whichever single axis is given; E in the loss's unit, the other amplitudes in the loss's
unit times their axis's unit to the power of the exponent; exponents are pure numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.form import MAX_EXPONENT, ROLES, Derivatives, Form, Model, PowerSum, SumModel, Term
from chemscale.laws.objectives import Array
from chemscale.laws.projection import mesh, project

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
    axes = (2,)
    fixed_roles = ("params", "data")

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term("E"), Term("A", (("params", "alpha"),)), Term("B", (("data", "alpha"),)))


class KaplanModel(Model):
    """q log(a e^(-p n) + b e^-d), theta = (a, b, p, q), n and d the centred logs of N and D."""

    def __init__(self, x: Array) -> None:
        zero = np.zeros(len(x))
        self.inside = SumModel(-np.stack([np.stack([x[:, 0], zero], 1), np.stack([zero, x[:, 1]], 1)]))

    def _inside(self, theta: Array) -> Array:
        return np.concatenate([theta[:, :3], np.ones((len(theta), 1))], axis=1)

    def log_fit(self, theta: Array) -> Array:
        return theta[:, 3:] * self.inside.log_fit(self._inside(theta))

    def derivatives(self, theta: Array) -> Derivatives:
        inside = self.inside.derivatives(self._inside(theta))
        q, slopes = theta[:, 3], inside.jacobian[:, :, :3]
        jacobian = np.concatenate([slopes * q[:, None, None], inside.log_fit[:, :, None]], axis=2)

        def curvature(v: Array) -> Array:
            hessian = np.zeros((len(theta), 4, 4))
            hessian[:, :3, :3] = q[:, None, None] * inside.curvature(v)[:, :3, :3]
            hessian[:, :3, 3] = hessian[:, 3, :3] = np.einsum("bn,bnp->bp", v, slopes)
            return hessian

        return Derivatives(q[:, None] * inside.log_fit, jacobian, curvature)


@dataclass(frozen=True)
class Kaplan(Form):
    """Parameters and data as one bottleneck, no floor: L = [(N_c/N)^(alpha/beta) + D_c/D]^beta.

    Kaplan et al. 2020 (arXiv:2001.08361, equation 1.5), alpha and beta their alpha_N and alpha_D; N_c in the unit of
    N and D_c in the unit of D. With unlimited data L = (N_c/N)^alpha, with unlimited parameters (D_c/D)^beta.
    """

    name = "kaplan"
    equation = "[(N_c/N)^(alpha/beta) + D_c/D]^beta"
    axes = (2,)
    fixed_roles = ("params", "data")

    @property
    def inner(self) -> tuple[str, ...]:
        return ("a", "b", "p", "q")

    @property
    def upper(self) -> Array:
        return np.array([np.inf, np.inf, MAX_EXPONENT, MAX_EXPONENT])

    def bind(self, x: Array) -> KaplanModel:
        return KaplanModel(x)

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        """For each q the form is linear in the amplitudes of loss^(1/q)."""
        model, found = KaplanModel(x).inside, []
        for q in np.geomspace(0.02, 2.0, 10):
            exponents = np.insert(mesh(1), 1, 1.0, axis=1)
            theta = project(model, exponents, log_loss / q, weights)
            found.append(np.concatenate([theta[:, :3], np.full((len(theta), 1), q)], axis=1))
        return np.concatenate(found)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        a, b, p, q = theta.T
        with np.errstate(all="ignore"):
            return {
                "N_c": np.exp((log_scale / q + np.log(a)) / p + centre[0]),
                "D_c": np.exp(log_scale / q + np.log(b) + centre[1]),
                "alpha": p * q,
                "beta": q,
            }

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"N_c": ("alpha", "beta"), "D_c": ("beta",)}

    @property
    def solved_as(self) -> dict[str, str]:
        return {"alpha": "p", "beta": "q"}

    def exponent_of(self, role: str) -> str:
        return "alpha" if role == "params" else "beta"


FORMS: dict[str, type[Form]] = {form.name: form for form in (Power, PowerFloor, Chinchilla, Tied, Kaplan)}


def choose(name: str, roles: tuple[str, ...]) -> Form:
    """The form called `name` over the given axes.

    Forms of N and D ignore `flops`. Raises ValueError for an unknown form or for axes that it cannot take.
    """
    if name not in FORMS:
        raise ValueError(f"form={name!r} is not one of {', '.join(FORMS)}, auto.")
    kind = FORMS[name]
    if kind.fixed_roles:
        missing = [role for role in kind.fixed_roles if role not in roles]
        if missing:
            raise ValueError(
                f"form={name!r} ({kind.equation}) needs {' and '.join(kind.fixed_roles)}, and {missing[0]} is not "
                f"given; name its column, or use form='power_floor' for one axis."
            )
        return kind(kind.fixed_roles)
    if len(roles) not in kind.axes:
        allowed = " or ".join(str(n) for n in kind.axes)
        raise ValueError(
            f"form={name!r} ({kind.equation}) takes {allowed} of {', '.join(ROLES)}, not {len(roles)} "
            f"({', '.join(roles) or 'none'}); name the column of the axis that is meant."
        )
    return kind(roles)


def applicable(roles: tuple[str, ...]) -> list[Form]:
    """Every form that can take these axes, in the order of `FORMS`."""
    found = []
    for name in FORMS:
        try:
            found.append(choose(name, roles))
        except ValueError:
            continue
    return found

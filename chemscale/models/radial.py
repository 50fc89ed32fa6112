"""Radial bases and cutoff functions that the potentials share.

Legend of shapes: pairs, basis. Distances are in angstrom. Every function here is smooth inside the cutoff; the bases do
not vanish at the cutoff by themselves, so models multiply what they make of them by a cutoff function.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

FAINT = -32.0  # exponents below give 0, not 1e-14 or less: subnormal numbers slow matrix products a hundredfold


class Gaussian(nn.Module):
    """Gaussians with centres from 0 to the cutoff, as wide as they are apart (Schütt et al. 2017, SchNet, eq. 6).

    `exp(-(d - mu_k)^2 / (2 delta^2))`, `mu_k = k delta`, `delta = cutoff / (basis - 1)`.

    Args:
        basis: number of Gaussians, at least 2.
        cutoff: centre of the last one, angstrom.
    """

    def __init__(self, basis: int, cutoff: float) -> None:
        super().__init__()
        self.inverse_width = (basis - 1) / cutoff  # 1 / angstrom
        self.centres: Tensor
        self.register_buffer("centres", torch.arange(basis) * self.inverse_width**-1)

    def forward(self, distances: Tensor) -> Tensor:
        """(pairs,) angstrom -> (pairs, basis)."""
        steps = (distances[:, None] - self.centres) * self.inverse_width
        return torch.exp(functional.threshold(-0.5 * steps.square(), FAINT, -math.inf))


class Bessel(nn.Module):
    """Zeroth-order spherical Bessel functions that are 0 at the cutoff (Gasteiger et al. 2020, DimeNet, eq. 7).

    `sqrt(2 / c) sin(n pi d / c) / d`, n = 1 ... basis, orthonormal on [0, c] under the weight d^2. PaiNN uses the same
    functions without the constant, which the weights that follow absorb.

    Args:
        basis: number of functions, at least 1.
        cutoff: c, angstrom.
    """

    def __init__(self, basis: int, cutoff: float) -> None:
        super().__init__()
        self.norm = math.sqrt(2.0 / cutoff)
        self.wavenumbers: Tensor
        self.register_buffer("wavenumbers", torch.arange(1, basis + 1) * (math.pi / cutoff))  # 1 / angstrom

    def forward(self, distances: Tensor) -> Tensor:
        """(pairs,) angstrom -> (pairs, basis)."""
        column = distances[:, None]
        return torch.sin(column * self.wavenumbers) * (self.norm / column)


def cosine_cutoff(distances: Tensor, cutoff: float) -> Tensor:
    """`(cos(pi d / c) + 1) / 2` below the cutoff c, 0 above: value and slope are continuous (Behler 2011, eq. 4).

    Args:
        distances: (pairs,), angstrom.
        cutoff: c, angstrom.
    """
    return 0.5 * torch.cos((distances * (math.pi / cutoff)).clamp(max=math.pi)) + 0.5


def polynomial_cutoff(distances: Tensor, cutoff: float, power: int = 6) -> Tensor:
    """A polynomial that falls from 1 to 0, two derivatives continuous at the cutoff (Gasteiger et al. 2020, eq. 8).

    `1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)` with `x = d / c`; 0 above the cutoff c.

    Args:
        distances: (pairs,), angstrom.
        cutoff: c, angstrom.
        power: p, at least 2; DimeNet and NequIP use 6.
    """
    x = (distances / cutoff).clamp(max=1.0)
    p = power
    bracket = (p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2))
    return 1.0 - x.pow(p) * bracket


class ExponentialBernstein(nn.Module):
    """Bernstein polynomials in `exp(-gamma d)`, which are dense near the nucleus (Unke et al. 2021, SpookyNet).

    With x = exp(-gamma d), `binomial(K - 1, v) x^(K - 1 - v) (1 - x)^v`, v = 0 ... K - 1, each faded once more by x, as
    the authors' code has it.

    Args:
        basis: K, at least 1.
    """

    DECAY = 0.5 / 0.529177210903  # gamma at the start, 1 / angstrom: half of one over bohr

    def __init__(self, basis: int) -> None:
        super().__init__()
        v = torch.arange(basis)
        self.outer: Tensor
        self.inner: Tensor
        self.logarithm: Tensor
        self.register_buffer("outer", (basis - v).float())
        self.register_buffer("inner", v.float())
        self.register_buffer("logarithm", torch.tensor([math.log(math.comb(basis - 1, k)) for k in range(basis)]))
        self.decay = nn.Parameter(torch.tensor([math.log(math.expm1(self.DECAY))]))  # softplus of it is gamma

    def forward(self, distances: Tensor) -> Tensor:
        """(pairs,) angstrom -> (pairs, basis)."""
        steps = functional.softplus(self.decay) * distances[:, None]  # (pairs, 1), gamma d
        inside = torch.log(-torch.expm1(-steps))  # ln(1 - x)
        exponent = self.logarithm - self.outer * steps + self.inner * inside
        return torch.exp(functional.threshold(exponent, FAINT, -math.inf))


def smooth_cutoff(distances: Tensor, cutoff: float) -> Tensor:
    """`exp(-d^2 / ((c - d)(c + d)))` below the cutoff c, 0 above: smooth at every order (Unke et al. 2021).

    Args:
        distances: (pairs,), angstrom.
        cutoff: c, angstrom.
    """
    inside = distances < cutoff
    d = torch.where(inside, distances, 0.0)  # where the quotient and its slopes are finite
    exponent = -d.square() / ((cutoff - d) * (cutoff + d))
    return torch.where(inside & (exponent > FAINT), torch.exp(exponent.clamp(min=FAINT)), 0.0)


class SphericalBessel(nn.Module):
    """Spherical Bessel functions of each degree that are 0 at the cutoff (Gasteiger et al. 2020, DimeNet, eq. 6).

    `sqrt(2) / |j_(l+1)(z_ln)| * j_l(z_ln d / c)`, z_ln the n-th root of j_l, orthonormal on x = d/c in [0, 1] under the
    weight x^2.

    Args:
        degrees: l = 0 ... degrees - 1.
        basis: n = 1 ... basis.
        cutoff: c, angstrom.
    """

    def __init__(self, degrees: int, basis: int, cutoff: float) -> None:
        super().__init__()
        roots, norms = _bessel_roots(degrees, basis)
        self.wavenumbers: Tensor
        self.norms: Tensor
        self.register_buffer("wavenumbers", torch.tensor(roots) / cutoff)  # (degrees, basis), 1 / angstrom
        self.register_buffer("norms", torch.tensor(norms))

    def forward(self, distances: Tensor) -> Tensor:
        """(pairs,) angstrom -> (pairs, degrees, basis)."""
        x = distances[:, None, None] * self.wavenumbers
        below, here = torch.cos(x) / x, torch.sin(x) / x  # j_-1 and j_0
        found = [here[:, 0]]
        for degree in range(1, x.shape[1]):  # j_l = (2l - 1)/x j_(l-1) - j_(l-2); stable, since x is large enough
            below, here = here, (2 * degree - 1) / x * here - below
            found.append(here[:, degree])
        return torch.stack(found, 1) * self.norms


def _bessel_roots(degrees: int, basis: int) -> tuple[list[list[float]], list[list[float]]]:
    """Roots of j_l and the norms of the functions that they make; those of j_l lie between those of j_(l-1)."""
    from scipy.special import spherical_jn  # here: every process of a sweep would load scipy for it

    between = [n * math.pi for n in range(1, basis + degrees + 1)]
    roots, norms = [], []
    for degree in range(degrees):
        if degree:
            between = [_root(degree, *ends) for ends in pairwise(between)]
        roots.append(between[:basis])
        norms.append([math.sqrt(2.0) / abs(float(spherical_jn(degree + 1, z))) for z in between[:basis]])
    return roots, norms


def _root(degree: int, low: float, high: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    return float(brentq(lambda x: spherical_jn(degree, x), low, high))  # type: ignore[arg-type]

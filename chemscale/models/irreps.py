"""Features that turn with the molecule: irreps of O(3), their products with a pair's harmonics, linear maps and gates.

A feature is a tuple of blocks, one for each irrep, (rows, 2l + 1, channels), channels last. Harmonics, Clebsch-Gordan
coefficients and norms follow e3nn (Geiger & Smidt 2022, arXiv 2207.09453): "component" normalisation, in which every
component of a random feature has variance 1.

Legend of shapes: rows (atoms or pairs), pairs, channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Blocks = tuple[Tensor, ...]  # one (rows, 2l + 1, channels) for each irrep


class Irrep(NamedTuple):
    """How a feature turns: as harmonics of this degree; under inversion it keeps (1) or changes (-1) its sign."""

    degree: int
    parity: int

    @property
    def dim(self) -> int:
        """Components, 2l + 1."""
        return 2 * self.degree + 1


SCALAR = Irrep(0, 1)


def harmonic(degree: int) -> Irrep:
    """The irrep of the spherical harmonics of this degree: odd degrees change sign under inversion."""
    return Irrep(degree, (-1) ** degree)


def irreps_up_to(degree: int, *, parity: bool) -> tuple[Irrep, ...]:
    """Every irrep up to a degree: with both parities, or with the harmonics' own alone."""
    every = (Irrep(n, sign) for n in range(degree + 1) for sign in (1, -1))
    return tuple(ir for ir in every if parity or ir == harmonic(ir.degree))


def product(a: Irrep, b: Irrep) -> tuple[Irrep, ...]:
    """The irreps in the product of two, by degree."""
    degrees = range(abs(a.degree - b.degree), a.degree + b.degree + 1)
    return tuple(Irrep(degree, a.parity * b.parity) for degree in degrees)


class Path(NamedTuple):
    """One way to couple a feature with a pair's harmonics (or another feature) into a third."""

    left: Irrep
    right: Irrep
    out: Irrep

    @property
    def degrees(self) -> tuple[int, int, int]:
        """Of left, right and out."""
        return self.left.degree, self.right.degree, self.out.degree


def paths(left: Iterable[Irrep], right: Sequence[Irrep], outs: Sequence[Irrep]) -> tuple[Path, ...]:
    """Every path from these irreps to those, in the order of e3nn's instructions: by left, right, then out."""
    return tuple(Path(a, b, c) for a in left for b in right for c in product(a, b) if c in outs)


@cache
def coupling(left: int, right: int, out: int) -> Tensor:
    """Clebsch-Gordan coefficients of three degrees, (2 left + 1, 2 right + 1, 2 out + 1), float64.

    Wigner's 3j symbols in e3nn's basis times the root of 2 out + 1.
    """
    from e3nn.o3 import wigner_3j  # takes a second to import, which only models with harmonics need

    with torch.device("cpu"), torch.no_grad():
        return wigner_3j(left, right, out, dtype=torch.float64) * math.sqrt(2 * out + 1)


class Exact(nn.Module):
    """Base of modules with constants that a change of type does not round twice.

    A buffer made in float32 and moved to float64 keeps float32's rounding, with which products of irreps are
    equivariant to 1e-7 only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def constant(self, name: str, value: Tensor) -> None:
        """Keep a float64 tensor as a buffer in the module's type."""
        self._exact[name] = value
        like = torch.empty(0)  # where and in what type modules are being built
        self.register_buffer(name, value.to(like.device, like.dtype), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        for name, value in self._exact.items():
            like = getattr(self, name)
            setattr(self, name, value.to(like.device, like.dtype))
        return self


class Harmonics(Exact):
    """Real spherical harmonics of unit vectors up to a degree, each of squared length 2l + 1.

    `Y_l` is the part of degree l in the product of `Y_(l-1)` and `Y_1`, scaled to its length and with e3nn's sign.
    """

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree
        for n in range(2, degree + 1):
            self.constant(f"step_{n}", _step(n))

    def forward(self, unit: Tensor) -> Blocks:
        """(pairs, 3) -> (pairs, 2l + 1) for each l."""
        found = [torch.ones_like(unit[:, :1]), unit * math.sqrt(3.0)][: self.degree + 1]
        for n in range(2, self.degree + 1):
            both = (found[-1][:, :, None] * unit[:, None]).flatten(1)  # (pairs, (2l - 1) * 3)
            found.append(both @ getattr(self, f"step_{n}"))
        return tuple(found)


@cache
def _step(degree: int) -> Tensor:
    """((2l - 1) * 3, 2l + 1): takes the products of Y_(l-1) and a unit vector to Y_l."""
    from e3nn.o3 import spherical_harmonics

    with torch.device("cpu"), torch.no_grad():
        point = torch.tensor([[0.36, 0.48, 0.8]], dtype=torch.float64)
        below, here = (spherical_harmonics(n, point, False, "component") for n in (degree - 1, degree))
        matrix = coupling(degree - 1, 1, degree).flatten(0, 1)
        raw = (below[:, :, None] * point[:, None]).flatten(1) @ matrix
        return matrix * ((raw * here).sum() / raw.square().sum())


class Couplings(Exact):
    """The matrices by which a pair's harmonics take a feature of one degree to another, for a set of paths.

    `M[k, i] = sum over j of C[i, j, k] Y[j]`. They depend on the pair alone, so they are made once and serve every
    layer and every channel.
    """

    def __init__(self, found: Iterable[Path]) -> None:
        super().__init__()
        self.triples = sorted({path.degrees for path in found})
        for left, right, out in self.triples:
            if left and right and out:
                matrix = coupling(left, right, out).permute(1, 2, 0).flatten(1)  # (2 right + 1, out * left)
                self.constant(f"c_{left}_{right}_{out}", matrix.contiguous())

    def forward(self, harmonics: Blocks) -> dict[tuple[int, int, int], Tensor | None]:
        """Matrices (pairs, 2 out + 1, 2 left + 1) by the path's degrees; None is the identity."""
        return {triple: self._matrix(triple, harmonics[triple[1]]) for triple in self.triples}

    def _matrix(self, triple: tuple[int, int, int], y: Tensor) -> Tensor | None:
        left, right, out = triple
        if right == 0:
            return None
        if left == 0:
            return y[:, :, None]
        if out == 0:
            return y[:, None] / math.sqrt(2 * left + 1)
        return (y @ getattr(self, f"c_{left}_{right}_{out}")).view(-1, 2 * out + 1, 2 * left + 1)


class Directions:
    """The harmonics of pairs (or of edges), and the matrices made of them where a product is to use them.

    Args:
        harmonics: (rows, 2l + 1) for each l.
        couplings: what makes the matrices; they are not made where nobody reads them.
    """

    def __init__(self, harmonics: Blocks, couplings: Couplings) -> None:
        self.harmonics, self._couplings = harmonics, couplings

    @cached_property
    def matrices(self) -> dict[tuple[int, int, int], Tensor | None]:
        """(rows, 2 out + 1, 2 left + 1) by the path's degrees."""
        return self._couplings(self.harmonics)


def couple(matrix: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    """A pair's matrix times a feature, times a weight for each channel, the weight on the smaller side.

    Args:
        matrix: (pairs, 2 out + 1, 2 left + 1), or None for the identity.
        x: (pairs, 2 left + 1, channels).
        weight: (pairs, 1, channels).

    Returns:
        (pairs, 2 out + 1, channels).
    """
    if matrix is None:
        return weight * x
    if matrix.shape[2] == 1:  # from a scalar: an outer product
        return matrix * (weight * x)
    if matrix.shape[2] < matrix.shape[1]:
        return torch.bmm(matrix, weight * x)
    return weight * torch.bmm(matrix, x)


class Linear(nn.Module):
    """Mixes the channels of each irrep by a matrix of its own over the root of its inputs (e3nn's `Linear`).

    Args:
        inputs, outputs: channels of each irrep, in order; the block of an irrep with no input is left out.
        gain: factor on all that comes out.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], gain: float = 1.0) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(i, o) for i, o in zip(inputs, outputs, strict=True))
        self.gains = [gain / math.sqrt(i) for i in inputs]

    def forward(self, blocks: Blocks) -> Blocks:
        """(rows, 2l + 1, inputs) -> (rows, 2l + 1, outputs) for each irrep."""
        return tuple(x @ (w * g) for x, w, g in zip(blocks, self.weights, self.gains, strict=True))


class Dense(nn.Module):
    """A network of scalars without biases, whose weights have variance 1 and are divided by the root of their inputs.

    SiLU between layers, and a gain of sqrt(2) after it, as the `nequip` package has; so a published rate carries over.

    Args:
        sizes: features of the input, of every hidden layer and of the output.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.outputs = sizes[-1]
        self.weights = nn.ParameterList(
            torch.empty(i, o).uniform_(-math.sqrt(3.0), math.sqrt(3.0)) for i, o in pairwise(sizes)
        )
        self.gains = [(math.sqrt(2.0) if k else 1.0) / math.sqrt(i) for k, i in enumerate(sizes[:-1])]

    def forward(self, x: Tensor) -> Tensor:
        """(rows, inputs) -> (rows, outputs)."""
        for k, (weight, gain) in enumerate(zip(self.weights, self.gains, strict=True)):
            x = (torch.nn.functional.silu(x) if k else x) @ (weight * gain)
        return x


def check_order(config: Any, least: dict[str, int]) -> None:
    """Refuse a degree, a number of neighbours or a whole number that no equivariant model can have.

    Args:
        config: holds `degree`, `neighbours` and the fields of `least`.
        least: the smallest allowed value of each further field.

    Raises:
        ValueError: names the field, its value and what is allowed.
    """
    for name, smallest in {"degree": 0, **least}.items():
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            raise ValueError(
                f"{type(config).__name__}.{name}={value!r} is not allowed: it must be an integer of at least "
                f"{smallest}."
            )
    if not 0 < config.neighbours < math.inf:
        raise ValueError(
            f"{type(config).__name__}.neighbours={config.neighbours!r} is not allowed: it must be a positive number, "
            "about the mean number of atoms within the cutoff."
        )

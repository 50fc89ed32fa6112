"""Products of irreps by a library of kernels for GPUs, NVIDIA's cuEquivariance; plain torch is their reference.

A kernel takes a feature as one row: its irreps one after another, of each the components outermost and the channels
innermost (the library's layout "ir_mul"). That is how `irreps.Blocks` lie in memory, so nothing is transposed.
Coefficients are those of `irreps.coupling`, so no basis is changed either, and the parameters are the plain model's:
states go from one to the other. Kernels gather rows of atoms, and sum into them, by themselves.

Legend of shapes: rows (atoms or edges), edges (pairs seen from either end, 2 * pairs), pairs, channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from chemscale.models.irreps import Blocks, Directions, Irrep, Path, coupling

KERNELS_OF = {"cuda": "uniform_1d"}  # the library's name of what it does: sums of products of equal channels
REFERENCE = "naive"  # the library's own plain torch, which runs anywhere and is for tests

Term = tuple[tuple[int, ...], Tensor]  # the segment of every operand, the result's last, and their coefficients


class Contraction:
    """A sum of products of rows, as one kernel. No module: what it holds is no part of a model's state.

    Args:
        subscripts: the modes of every operand, the result's last, then those of the coefficients.
        segments: the shape of every segment of every operand.
        terms: which segments are multiplied into which.
        method: `KERNELS_OF` a device, or `REFERENCE`.
    """

    def __init__(
        self, subscripts: str, segments: Sequence[Sequence[tuple[int, ...]]], terms: Sequence[Term], method: str
    ) -> None:
        import cuequivariance  # pyright: ignore[reportMissingImports]  # an extra that need not be here
        import cuequivariance_torch  # pyright: ignore[reportMissingImports]

        made: Any = cuequivariance.SegmentedTensorProduct
        product = made.from_subscripts(subscripts)
        for operand, shapes in enumerate(segments):
            for shape in shapes:
                product.add_segment(operand, shape)
        for places, coefficients in terms:
            product.add_path(*places, c=coefficients.numpy())
        polynomial = cuequivariance.SegmentedPolynomial.eval_last_operand(product)
        self._run: Any = cuequivariance_torch.SegmentedPolynomial(polynomial, method=method)

    def __call__(
        self, operands: Sequence[Tensor], gathered: Mapping[int, Tensor], into: tuple[Tensor, int] | None = None
    ) -> Tensor:
        """Every row of the operands multiplied.

        Args:
            operands: (rows, size) each, or (1, size) where all rows share it.
            gathered: rows of an operand that are meant, by its place.
            into: the row of the result to which each product is added, and how many rows it has.
        """
        if into is None:
            return self._run(list(operands), dict(gathered))[0]
        rows, count = into
        shape = operands[0].new_empty(count, 1)  # the library reads its length alone
        return self._run(list(operands), dict(gathered), {0: shape}, {0: rows})[0]


class ConvolutionKernel:
    """NequIP's sum over neighbours: weight of a path times a neighbour's feature times the pair's harmonics.

    Args:
        steps: its paths.
        ends: irreps that enter, and those that leave.
        channels: of every irrep.
    """

    def __init__(
        self, steps: Sequence[Path], ends: tuple[Sequence[Irrep], Sequence[Irrep]], channels: int, method: str
    ) -> None:
        (inputs, self.outputs), self.steps, self.channels = ends, tuple(steps), channels
        degrees = range(1 + max(path.right.degree for path in steps))
        segments = (
            [(channels,)] * len(self.steps),
            [(ir.dim, channels) for ir in inputs],
            [(2 * n + 1,) for n in degrees],
            [(path.out.dim, channels) for path in self.steps],
        )
        terms = [((k, inputs.index(p.left), p.right.degree, k), coupling(*p.degrees)) for k, p in enumerate(self.steps)]
        self._sum = Contraction("u,iu,j,ku+ijk", segments, terms, method)
        self._degrees = len(degrees)

    def __call__(self, x: Blocks, weights: Tensor, directions: Directions, pairs: Tensor) -> Blocks:
        """(atoms, 2l + 1, channels), (pairs, paths * channels), (pairs, 2l + 1), (2, pairs) -> sums of each irrep."""
        there = directions.harmonics[: self._degrees]
        both = torch.cat([torch.cat((y, y * (-1) ** n)) for n, y in enumerate(there)], 1)  # (edges, components)
        each = torch.arange(pairs.shape[1], device=pairs.device).repeat(2)
        gathered = {0: each, 1: pairs.flip(0).flatten()}
        rows = self._sum((weights, flat(x), both), gathered, (pairs.flatten(), len(x[0])))
        parts = parted(rows, [path.out for path in self.steps], self.channels)
        return tuple(
            torch.cat([part for part, path in zip(parts, self.steps, strict=True) if path.out == ir], -1)
            for ir in self.outputs
        )


class HarmonicKernel:
    """The product of Allegro's first layer: weighted harmonics of an edge times its centre's environment.

    Args:
        steps: its paths, by what leaves.
        channels: of every irrep.
    """

    def __init__(self, steps: Sequence[Path], channels: int, method: str) -> None:
        self.channels, self.outputs = channels, tuple(dict.fromkeys(path.out for path in steps))
        degrees = range(1 + max(max(path.degrees[:2]) for path in steps))
        self._degrees = len(degrees)
        segments = (
            [(channels,)] * len(steps),
            [(channels,)] * len(degrees),
            [(2 * n + 1,) for n in degrees],
            [(2 * n + 1, channels) for n in degrees],
            [(ir.dim, channels) for ir in self.outputs],
        )
        terms = [
            ((k, left, left, right, self.outputs.index(path.out)), coupling(right, left, out))
            for k, path in enumerate(steps)
            for left, right, out in (path.degrees,)
        ]
        self._product = Contraction("u,u,j,iu,ku+ijk", segments, terms, method)

    def __call__(self, own: Tensor, weights: Blocks, harmonics: Blocks, environment: Blocks, centre: Tensor) -> Blocks:
        """(paths, channels), (edges, 1, channels), (edges, 2l + 1), (atoms, 2l + 1, channels), (edges,) -> products."""
        n = self._degrees
        operands = own.view(1, -1), flat(weights[:n]), torch.cat(harmonics[:n], 1), flat(environment[:n])
        return parted(self._product(operands, {3: centre}), self.outputs, self.channels)


class TensorKernel:
    """The product of Allegro's later layers: an edge's tensors times its centre's environment.

    Args:
        steps: its paths, by what leaves.
        inputs: irreps of the tensors.
        channels: of every irrep.
    """

    def __init__(self, steps: Sequence[Path], inputs: Sequence[Irrep], channels: int, method: str) -> None:
        self.channels, self.outputs = channels, tuple(dict.fromkeys(path.out for path in steps))
        degrees = range(1 + max(path.right.degree for path in steps))
        self._degrees = len(degrees)
        segments = (
            [(channels,)] * len(steps),
            [(ir.dim, channels) for ir in inputs],
            [(2 * n + 1, channels) for n in degrees],
            [(ir.dim, channels) for ir in self.outputs],
        )
        terms = [
            ((k, inputs.index(path.left), path.right.degree, self.outputs.index(path.out)), coupling(*path.degrees))
            for k, path in enumerate(steps)
        ]
        self._product = Contraction("u,iu,ju,ku+ijk", segments, terms, method)

    def __call__(self, own: Tensor, tensors: Blocks, environment: Blocks, centre: Tensor) -> Blocks:
        """(paths, channels), (edges, 2l + 1, channels), (atoms, 2l + 1, channels), (edges,) -> products."""
        operands = own.view(1, -1), flat(tensors), flat(environment[: self._degrees])
        return parted(self._product(operands, {2: centre}), self.outputs, self.channels)


def flat(blocks: Blocks) -> Tensor:
    """(rows, 2l + 1, channels) for each irrep -> (rows, components * channels)."""
    return torch.cat([block.flatten(1) for block in blocks], 1)


def parted(rows: Tensor, irreps: Sequence[Irrep], channels: int) -> Blocks:
    """The opposite of `flat`."""
    parts = rows.split([ir.dim * channels for ir in irreps], 1)
    return tuple(part.view(-1, ir.dim, channels) for part, ir in zip(parts, irreps, strict=True))

"""NequIP: equivariant message passing with features of any degree (Batzner et al. 2022, arXiv 2101.03164).

Legend of shapes: atoms, pairs, basis (radial functions), width (channels, always last), species (rows of the table).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.irreps import (
    SCALAR,
    Blocks,
    Couplings,
    Dense,
    Directions,
    Harmonics,
    Irrep,
    Linear,
    check_order,
    couple,
    harmonic,
    irreps_up_to,
    paths,
)
from chemscale.models.kernels import ConvolutionKernel
from chemscale.models.potential import Potential, PotentialConfig, check_dials
from chemscale.models.radial import Bessel, polynomial_cutoff
from chemscale.models.sizing import of_size
from chemscale.spec import register_model

NEIGHBOURS = 16.0  # within 5 angstrom in molecules of 27 atoms (16.75 in 3BPA); one number, whatever the subset
TYPES = 32  # features of an element in the `nequip` package's presets
FEW_SPECIES = 8  # up to here one product for all elements is cheaper than a matrix gathered for each atom


@register_model
@dataclass(frozen=True)
class NequIP(PotentialConfig):
    """What a NequIP is; `sized` derives it from its width.

    Args:
        width: channels of every irrep (32 to 64 in the paper).
        depth: interaction blocks.
        cutoff: angstrom.
        basis: Bessel functions of the distance (8 in the paper).
        degree: l_max, of features and of harmonics; 0 is invariant, and sees no angles.
        parity: whether features have both parities under inversion, or their harmonics' alone.
        types: features by which an element enters the first layer and every self-connection.
        radial_width, radial_depth: hidden features and layers of the radial network.
        neighbours: whose root divides every sum over neighbours.

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 3
    cutoff: float = 5.0
    basis: int = 8
    degree: int = 1
    parity: bool = False
    types: int = TYPES
    radial_width: int = 64
    radial_depth: int = 1
    neighbours: float = NEIGHBOURS

    architecture: ClassVar[str] = "nequip"
    kernels: ClassVar[tuple[str, ...]] = ("cuequivariance",)

    def __post_init__(self) -> None:
        check_dials(self, even_width=True)
        check_order(self, {"types": 1, "radial_width": 1, "radial_depth": 0})

    @classmethod
    def sized(
        cls,
        width: int | None = None,
        depth: int = 3,
        cutoff: float = 5.0,
        *,
        params: float | None = None,
        flops: float | None = None,
        degree: int = 1,
        parity: bool = False,
    ) -> NequIP:
        """The NequIP of this width, or of this budget (`models.sizing`).

        An element has as many features as an irrep has channels, 32 at most.
        """
        return of_size(
            lambda w: cls(w, depth, cutoff, degree=degree, parity=parity, types=min(w, TYPES)), width, params, flops
        )  # fmt: skip

    @property
    def variant(self) -> str:
        """The degree of its features, and whether they have both parities: others follow other laws."""
        return f"l{self.degree}_parity" if self.parity else f"l{self.degree}"

    def build(self, manifest: AtomicManifest) -> NequIPPotential:
        """The module for data with this manifest, freshly initialised."""
        return NequIPPotential(self, manifest)


class Shape(NamedTuple):
    """Irreps that enter and leave one interaction block."""

    inputs: tuple[Irrep, ...]
    outputs: tuple[Irrep, ...]


def block_shapes(degree: int, depth: int, *, parity: bool) -> tuple[Shape, ...]:
    """The irreps of every block: those that can come about from what enters and that an energy can depend on."""
    sphere, hidden = tuple(map(harmonic, range(degree + 1))), irreps_up_to(degree, parity=parity)
    levels: list[tuple[Irrep, ...]] = [(SCALAR,)]
    for k in range(depth):
        wanted = hidden if k < depth - 1 else (SCALAR,)
        reached = {path.out for path in paths(levels[-1], sphere, wanted)}
        levels.append(tuple(ir for ir in wanted if ir in reached))
    for k in range(depth - 1, 0, -1):  # what no later block reads is left out
        read = {path.left for path in paths(levels[k], sphere, levels[k + 1])} | set(levels[k + 1])
        levels[k] = tuple(ir for ir in levels[k] if ir in read)
    return tuple(Shape(*ends) for ends in pairwise(levels))


class NequIPPotential(Potential):
    """Energies of atoms from `depth` interaction blocks and a linear readout of their scalars (figure 1 of the paper).

    Irreps that the `nequip` package lists but that never touch an energy are left out (only with both parities).
    """

    def __init__(self, config: NequIP, manifest: AtomicManifest) -> None:
        super().__init__(manifest)
        self.cutoff = config.cutoff
        self.embedding = nn.Embedding(len(self.species), config.types)
        self.basis = Bessel(config.basis, config.cutoff)
        self.harmonics = Harmonics(config.degree)
        shapes = block_shapes(config.degree, config.depth, parity=config.parity)
        self.interactions = nn.ModuleList(Interaction(config, shape, first=k == 0) for k, shape in enumerate(shapes))
        self.couplings = Couplings(path for block in self.interactions for path in block.paths)  # type: ignore[union-attr]
        self.readout = Dense(config.width, 1)

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        fade = polynomial_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        radial = self.basis(distances) * (fade * math.sqrt(2 / self.cutoff))  # (pairs, basis), 2/c sin(n pi d/c)/d
        directions = Directions(self.harmonics(vectors / distances[:, None]), self.couplings)
        species = self.rows(batch.species)
        x: Blocks = (self.embedding(species)[:, None],)  # (atoms, 1, types)
        for block in self.interactions:
            x = block(x, radial, directions, species, self.embedding.weight, batch.pairs)
        return self.readout(x[0]).flatten()


class Interaction(nn.Module):
    """One interaction block: linear, convolution, linear, a self-connection by element, gate.

    Args:
        config: the model's.
        shape: irreps that enter and leave.
        first: the first block's features are the elements themselves; it has no self-connection (so a lone atom's
            energy is that of its element alone).
    """

    def __init__(self, config: NequIP, shape: Shape, *, first: bool) -> None:
        super().__init__()
        channels = config.types if first else config.width
        self.shape, self.channels = shape, channels
        self.paths = paths(shape.inputs, tuple(map(harmonic, range(config.degree + 1))), shape.outputs)
        many = [channels] * len(shape.inputs)
        self.inward = Linear(many, many, gain=config.neighbours**-0.5)
        hidden = [config.radial_width] * config.radial_depth
        self.radial = Dense(config.basis, *hidden, len(self.paths) * channels)
        self.gate = Gate(shape.outputs, config.width)
        gathered = [channels * sum(path.out == ir for path in self.paths) for ir in shape.outputs]
        self.outward = Linear(gathered, self.gate.inputs)
        self.kept = [] if first else [k for k, ir in enumerate(shape.outputs) if ir in shape.inputs]
        self.own = SelfConnection(channels, config.types, [self.gate.inputs[k] for k in self.kept])
        self.kernel: ConvolutionKernel | None = None

    def forward(
        self,
        x: Blocks,
        radial: Tensor,
        directions: Directions,
        species: Tensor,
        table: Tensor,
        pairs: Tensor,
    ) -> Blocks:
        """Features of atoms, (pairs, basis), directions, (atoms,), (species, types), (2, pairs) -> features."""
        convolve = self._convolved if self.kernel is None or not pairs.numel() else self.kernel
        sums = convolve(self.inward(x), self.radial(radial), directions, pairs)
        out = list(self.outward(sums))
        if self.kept:
            inputs = [x[self.shape.inputs.index(self.shape.outputs[k])] for k in self.kept]
            for k, own in zip(self.kept, self.own(inputs, species, table), strict=True):
                out[k] = out[k] + own
        return self.gate(out)

    def with_kernel(self, method: str) -> ConvolutionKernel:
        """The same sum over neighbours by kernels; it becomes what `kernel` is."""
        return ConvolutionKernel(self.paths, self.shape, self.channels, method)

    def _convolved(self, x: Blocks, weights: Tensor, directions: Directions, pairs: Tensor) -> Blocks:
        """The sum over neighbours of every path's product, those of one irrep beside each other.

        Seen from its other end a pair's harmonics of odd degree change their sign; all else stays.
        """
        first, second = pairs
        ends = [[block.index_select(0, end) for end in (second, first)] for block in x]
        found: dict[Irrep, list[Tensor]] = {ir: [] for ir in self.shape.outputs}
        for path, weight in zip(self.paths, weights[:, None].split(self.channels, -1), strict=True):
            there, back = ends[self.shape.inputs.index(path.left)]
            matrix = directions.matrices[path.degrees]
            total = x[0].new_zeros(x[0].shape[0], path.out.dim, self.channels)
            total.index_add_(0, first, couple(matrix, there, weight))
            total.index_add_(0, second, couple(matrix, back, weight), alpha=path.right.parity)
            found[path.out].append(total)
        return tuple(torch.cat(found[ir], -1) for ir in self.shape.outputs)


class SelfConnection(nn.Module):
    """A linear map of each irrep whose matrix is the element's own (the self-connection of figure 1d).

    The matrix of an element is linear in its features, so there are as many matrices as elements, made once a batch.

    Args:
        channels: that enter.
        types: features of an element.
        outputs: channels that leave, of each irrep.
    """

    def __init__(self, channels: int, types: int, outputs: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(types, channels * out) for out in outputs)
        self.channels, self.gain = channels, 1 / math.sqrt(channels * types)

    def forward(self, blocks: Sequence[Tensor], species: Tensor, table: Tensor) -> Blocks:
        """(atoms, 2l + 1, channels) for each irrep, (atoms,), (species, types) -> (atoms, 2l + 1, outputs) for each."""
        few = len(table) <= FEW_SPECIES
        apply = self._in_columns if few else self._gathered
        return tuple(apply(x, (table * self.gain) @ w, species) for x, w in zip(blocks, self.weights, strict=True))

    def _in_columns(self, x: Tensor, matrices: Tensor, species: Tensor) -> Tensor:
        """One product for all elements: features stand in the columns of their atom's element, 0 in the others'."""
        each = torch.arange(len(matrices), device=species.device)
        chosen = (species[:, None] == each).to(x.dtype)[:, None, :, None]  # (atoms, 1, species, 1)
        return (x[:, :, None] * chosen).flatten(2) @ matrices.view(len(matrices) * self.channels, -1)

    def _gathered(self, x: Tensor, matrices: Tensor, species: Tensor) -> Tensor:
        return torch.bmm(x, matrices.view(len(matrices), self.channels, -1).index_select(0, species))


class Gate(nn.Module):
    """Nonlinearity: scalars by SiLU (even) or tanh (odd), all others times a scalar of their own after SiLU (eq. 8).

    Activations are scaled so that a normal variable keeps the second moment 1, as e3nn does.

    Args:
        outputs: irreps that leave; the first is the even scalar.
        width: channels of each.
    """

    def __init__(self, outputs: Sequence[Irrep], width: int) -> None:
        super().__init__()
        self.outputs, self.width = tuple(outputs), width
        gated = sum(ir.degree > 0 for ir in outputs)
        self.inputs = [width * (1 + gated)] + [width] * (len(outputs) - 1)  # channels that enter, of each irrep
        self.even, self.odd = second_moments()

    def forward(self, blocks: Sequence[Tensor]) -> Blocks:
        """(atoms, 2l + 1, inputs) for each irrep -> (atoms, 2l + 1, width) for each."""
        scalars, *gates = (functional.silu(blocks[0]) * self.even).split(self.width, -1)
        remaining = iter(gates)
        rest = [
            torch.tanh(x) * self.odd if ir.degree == 0 else x * next(remaining)
            for ir, x in zip(self.outputs[1:], blocks[1:], strict=True)
        ]
        return (scalars, *rest)


@cache
def second_moments() -> tuple[float, float]:
    """What SiLU and tanh are multiplied by, e3nn's own numbers."""
    from e3nn.math import normalize2mom

    with torch.device("cpu"):
        even, odd = (vars(normalize2mom(f))["cst"] for f in (functional.silu, torch.tanh))
    return even, odd

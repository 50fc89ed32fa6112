"""Allegro: strictly local equivariant features of pairs (Musaelian et al. 2023, arXiv 2204.05249).

Legend of shapes: atoms, pairs, edges (pairs seen from either end, 2 * pairs), basis (radial functions), width (channels
of scalars), tensors (channels of all other features, always last).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.irreps import (
    SCALAR,
    Blocks,
    Couplings,
    Dense,
    Directions,
    Exact,
    Harmonics,
    Irrep,
    Path,
    check_order,
    couple,
    coupling,
    harmonic,
    irreps_up_to,
    paths,
)
from chemscale.models.kernels import HarmonicKernel, TensorKernel
from chemscale.models.nequip import NEIGHBOURS
from chemscale.models.potential import Potential, PotentialConfig, check_dials
from chemscale.models.radial import Bessel, polynomial_cutoff
from chemscale.models.sizing import of_size
from chemscale.spec import register_model

START = 0.3  # of the readout's usual weights: fresh forces are then below the labels' scale at every width


@register_model
@dataclass(frozen=True)
class Allegro(PotentialConfig):
    """What an Allegro is; `sized` derives it from its width.

    Args:
        width: scalar features of an edge, and hidden features of every network.
        depth: layers (2 for 3BPA in the `nequip-allegro` package's tests, 3 in the paper's).
        cutoff: angstrom.
        basis: Bessel functions of the distance (8 in the paper).
        degree: l_max, of tensors and of harmonics.
        parity: whether tensors have both parities under inversion, or their harmonics' alone.
        tensors: channels of each irrep of an edge.
        neighbours: whose root divides every sum over neighbours.

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 2
    cutoff: float = 5.0
    basis: int = 8
    degree: int = 1
    parity: bool = False
    tensors: int = 32
    neighbours: float = NEIGHBOURS

    architecture: ClassVar[str] = "allegro"
    kernels: ClassVar[tuple[str, ...]] = ("cuequivariance",)

    def __post_init__(self) -> None:
        check_dials(self, even_width=True)
        check_order(self, {"tensors": 1})

    @classmethod
    def sized(
        cls,
        width: int | None = None,
        depth: int = 2,
        cutoff: float = 5.0,
        *,
        params: float | None = None,
        flops: float | None = None,
        degree: int = 1,
        parity: bool = False,
    ) -> Allegro:
        """The Allegro of this width, or of this budget (`models.sizing`), with half as many tensors as scalars."""
        return of_size(
            lambda w: cls(w, depth, cutoff, degree=degree, parity=parity, tensors=w // 2), width, params, flops
        )  # fmt: skip

    @property
    def variant(self) -> str:
        """The degree of its features, and whether they have both parities: others follow other laws."""
        return f"l{self.degree}_parity" if self.parity else f"l{self.degree}"

    def build(self, manifest: AtomicManifest) -> AllegroPotential:
        """The module for data with this manifest, freshly initialised."""
        return AllegroPotential(self, manifest)


class Edges(NamedTuple):
    """What every layer reads of edges: the atom each is centred on, and their directions."""

    centre: Tensor  # (edges,)
    directions: Directions


class AllegroPotential(Potential):
    """Energies of edges from `depth` layers and a network of all their scalars, summed over each atom's edges.

    An edge's features depend on its own two atoms and on the edges of its centre, never on a message from beyond, so
    the energy of an atom is a function of its neighbours alone however many layers there are (equations 5 to 13).
    """

    def __init__(self, config: Allegro, manifest: AtomicManifest) -> None:
        super().__init__(manifest)
        width, spread = config.width, (config.degree + 1) * config.tensors
        self.config = config
        self.embedding = nn.Embedding(len(self.species), width)  # half for the centre, half for the neighbour
        self.basis = Bessel(config.basis, config.cutoff)
        self.radial = Dense(config.basis, width)
        self.two_body = Dense(width, width, width)
        self.tensors = Dense(width, spread)
        self.start = Dense(width, width + spread)
        self.harmonics = Harmonics(config.degree)
        found = layer_paths(config.degree, config.depth, parity=config.parity)
        self.couplings = Couplings(path._replace(left=path.right, right=path.left) for path in found[0])
        self.layers = nn.ModuleList(
            Layer(config, number, steps, HarmonicProduct(steps, config.tensors) if number == 0 else
                  TensorProduct(steps, config.tensors))
            for number, steps in enumerate(found)
        )  # fmt: skip
        self.readout = Dense(width * (config.depth + 1), width // 2, 1)
        with torch.no_grad():
            self.readout.weights[-1].mul_(START)

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        edges = self._edges(batch, vectors / distances[:, None])
        scalars = self.two_body(self._embedded(batch, distances))  # (edges, width)
        tensors: Blocks = self._weights(self.tensors(scalars))
        known, weights = self.start(scalars).split((self.config.width, self.tensors.outputs), -1)
        for layer in self.layers:
            environment = self._environment(edges, self._weights(weights), batch.species.shape[0])
            known, weights, tensors = layer(known, tensors, environment, edges)
        energies = self.readout(known)  # (edges, 1)
        atomic = energies.new_zeros(batch.species.shape[0]).index_add_(0, edges.centre, energies.flatten())
        return atomic * (2 * self.config.neighbours) ** -0.5  # each atom moves both edges of a pair

    def _edges(self, batch: AtomicBatch, unit: Tensor) -> Edges:
        """Every pair from its first atom, then every pair from its second, where odd harmonics change their sign."""
        there = self.harmonics(unit)
        both = tuple(torch.cat((y, y * harmonic(n).parity)) for n, y in enumerate(there))
        return Edges(batch.pairs.flatten(), Directions(both, self.couplings))

    def _embedded(self, batch: AtomicBatch, distances: Tensor) -> Tensor:
        """Radial functions times features of both elements, (edges, width)."""
        cutoff = self.config.cutoff
        fade = polynomial_cutoff(distances, cutoff)[:, None]
        radial = self.radial(self.basis(distances) * (fade * (math.sqrt(cutoff / 2) * cutoff / math.pi)))
        elements = self.embedding(self.rows(batch.species))  # (atoms, width)
        own, other = (part.index_select(0, batch.pairs.flatten()) for part in elements.chunk(2, -1))
        neighbour = torch.cat(other.chunk(2)[::-1])  # an edge's neighbour is the centre of the same pair's other edge
        return torch.cat((own, neighbour), -1) * torch.cat((radial, radial))

    def _weights(self, flat: Tensor) -> Blocks:
        """(edges, degrees * tensors) -> (edges, 1, tensors) for each degree."""
        return tuple(flat[:, None].split(self.config.tensors, -1))

    def _environment(self, edges: Edges, weights: Blocks, atoms: int) -> Blocks:
        """Weighted harmonics summed over each atom's edges: (atoms, 2l + 1, tensors) for each l (eq. 10)."""
        gain = self.config.neighbours**-0.5
        return tuple(
            w.new_zeros(atoms, y.shape[1], w.shape[2]).index_add_(0, edges.centre, y[:, :, None] * w) * gain
            for y, w in zip(edges.directions.harmonics, weights, strict=True)
        )


def layer_paths(degree: int, depth: int, *, parity: bool) -> tuple[tuple[Path, ...], ...]:
    """The paths of every layer's product, by what leaves: those that can come about and lead to a scalar."""
    sphere, allowed = tuple(map(harmonic, range(degree + 1))), irreps_up_to(degree, parity=parity)
    levels: list[tuple[Irrep, ...]] = [sphere]
    for k in range(depth):
        wanted = allowed if k < depth - 1 else (SCALAR,)
        reached = {path.out for path in paths(levels[-1], sphere, wanted)}
        levels.append(tuple(ir for ir in wanted if ir in reached))
    for k in range(depth - 1, 0, -1):
        read = {path.left for path in paths(levels[k], sphere, levels[k + 1])}
        levels[k] = tuple(ir for ir in levels[k] if ir in read)
    return tuple(
        tuple(path for ir in outs for path in paths(inputs, sphere, (ir,))) for inputs, outs in pairwise(levels)
    )


class Layer(nn.Module):
    """One layer: a product of each edge's tensors with its centre's environment, and a network of its scalars.

    Args:
        config: the model's.
        number: from 0; the network reads the scalars of all layers before.
        steps: the product's paths, by what leaves.
        product: of an edge's tensors and its environment.
    """

    def __init__(self, config: Allegro, number: int, steps: tuple[Path, ...], product: nn.Module) -> None:
        super().__init__()
        self.width, self.product = config.width, product
        spread = (config.degree + 1) * config.tensors if number < config.depth - 1 else 0
        read = config.width * (number + 1) + config.tensors
        self.latent = Dense(read, config.width, config.width + spread)
        assert steps[0].out == SCALAR

    def forward(
        self, known: Tensor, tensors: Blocks, environment: Blocks, edges: Edges
    ) -> tuple[Tensor, Tensor, Blocks]:
        """The scalars known so far with this layer's, weights of the next environment, and the next tensors."""
        tensors = self.product(tensors, environment, edges)
        latent = self.latent(torch.cat((known, tensors[0][:, 0]), -1))
        return torch.cat((known, latent[:, : self.width]), -1), latent[:, self.width :], tensors


class HarmonicProduct(nn.Module):
    """The product where an edge's tensors are weighted harmonics: the pair's matrices serve all channels.

    Args:
        steps: paths, by what leaves.
        channels: of tensors.
    """

    def __init__(self, steps: tuple[Path, ...], channels: int) -> None:
        super().__init__()
        self.steps = steps
        self.weights = path_weights(steps, channels)
        self.kernel: HarmonicKernel | None = None

    def with_kernel(self, method: str) -> HarmonicKernel:
        """The same product by kernels; it becomes what `kernel` is."""
        return HarmonicKernel(self.steps, self.weights.shape[1], method)

    def forward(self, weights: Blocks, environment: Blocks, edges: Edges) -> Blocks:
        """(edges, 1, channels) and (atoms, 2l + 1, channels) for each l -> (edges, 2l + 1, channels) of what leaves."""
        if self.kernel is not None and edges.centre.numel():
            return self.kernel(self.weights, weights, edges.directions.harmonics, environment, edges.centre)
        around = [block.index_select(0, edges.centre) for block in environment]
        found: dict[Irrep, Tensor] = {}
        for path, own in zip(self.steps, self.weights, strict=True):
            left, right, out = path.degrees
            part = couple(edges.directions.matrices[right, left, out], around[right], weights[left] * own)
            found[path.out] = found[path.out] + part if path.out in found else part
        return tuple(found.values())


class TensorProduct(Exact):
    """The product of an edge's tensors, different in every channel, with its centre's environment.

    What the environment does to a tensor is a matrix for each atom and channel; it is made once an atom and then serves
    all of its edges.

    Args:
        steps: paths, by what leaves.
        channels: of tensors.
    """

    def __init__(self, steps: tuple[Path, ...], channels: int) -> None:
        super().__init__()
        self.steps = steps
        self.inputs = tuple(dict.fromkeys(sorted((path.left for path in steps), key=_order)))
        self.weights = path_weights(steps, channels)
        self.kernel: TensorKernel | None = None
        for left, right, out in {path.degrees for path in steps}:
            self.constant(f"c_{left}_{right}_{out}", coupling(left, right, out).permute(2, 0, 1).flatten(0, 1))

    def with_kernel(self, method: str) -> TensorKernel:
        """The same product by kernels; it becomes what `kernel` is."""
        return TensorKernel(self.steps, self.inputs, self.weights.shape[1], method)

    def forward(self, tensors: Blocks, environment: Blocks, edges: Edges) -> Blocks:
        """(edges, 2l + 1, channels) and (atoms, 2l + 1, channels) -> (edges, 2l + 1, channels) of what leaves."""
        if self.kernel is not None and edges.centre.numel():
            return self.kernel(self.weights, tensors, environment, edges.centre)
        entering = dict(zip(self.inputs, tensors, strict=True))
        matrices: dict[tuple[Irrep, Irrep], Tensor] = {}
        for path, own in zip(self.steps, self.weights, strict=True):
            matrix = torch.matmul(self._coupling(path), environment[path.right.degree]) * own
            ends = (path.left, path.out)
            matrices[ends] = matrices[ends] + matrix if ends in matrices else matrix
        found: dict[Irrep, Tensor] = {}
        for (left, out), matrix in matrices.items():
            shape = (-1, out.dim, left.dim, matrix.shape[-1])  # (edges, 2 out + 1, 2 left + 1, channels)
            part = (matrix.index_select(0, edges.centre).view(shape) * entering[left][:, None]).sum(2)
            found[out] = found[out] + part if out in found else part
        return tuple(found.values())

    def _coupling(self, path: Path) -> Tensor:
        left, right, out = path.degrees
        return getattr(self, f"c_{left}_{right}_{out}")  # ((2 out + 1) (2 left + 1), 2 right + 1)


def _order(ir: Irrep) -> tuple[int, int]:
    return ir.degree, -ir.parity  # as `irreps_up_to` lists them


def path_weights(steps: tuple[Path, ...], channels: int) -> nn.Parameter:
    """A weight of variance 1 for each path and channel, (paths, channels)."""
    return nn.Parameter(torch.empty(len(steps), channels).uniform_(-math.sqrt(3.0), math.sqrt(3.0)))

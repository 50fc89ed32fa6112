"""DimeNet++: messages along bonds that see the angles between them (Gasteiger et al. 2020, arXiv 2011.14115).

Everything it holds is invariant, and angles enter by triplets k -> j -> i, so that beside NequIP at l_max 0, which sees
no angle, it separates angles from equivariance. Triplets are never listed: by the addition theorem the Legendre
polynomial of an angle is a product of harmonics of two bonds, so that messages are summed at their target once, times
their harmonics, and read from there. The result is the paper's, and the work grows with pairs alone.

Legend of shapes: atoms, pairs, edges (directed: all pairs, then all pairs turned round), radial and angular (basis
functions), components (angular^2 harmonics), width, narrow (channels, always last).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.irreps import Harmonics
from chemscale.models.potential import Potential, PotentialConfig, check_dials, dense
from chemscale.models.radial import Bessel, SphericalBessel, polynomial_cutoff
from chemscale.models.sizing import of_size
from chemscale.spec import added_since, register_model
from chemscale.values import positive

BEFORE, AFTER, OUTPUT = 1, 2, 3  # residual layers before and after the skip, layers of an output block, as in the paper
BOTTLENECK = 8  # channels through which basis functions enter, as in the paper


@register_model
@dataclass(frozen=True)
class DimeNet(PotentialConfig):
    """What a DimeNet++ is; `sized` derives it from its width.

    Args:
        width: channels of messages (128 in the paper).
        depth: interaction blocks (4 in the paper).
        cutoff: angstrom (5 in the paper).
        basis: radial functions (6 in the paper).
        angular: Legendre polynomials of an angle, of degree 0 and up (7 in the paper).
        forces: "gradient", or "direct" along bonds, from messages.

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 3
    cutoff: float = 5.0
    basis: int = 6
    angular: int = 4
    forces: str = added_since(1, "gradient")

    architecture: ClassVar[str] = "dimenet"

    def __post_init__(self) -> None:
        check_dials(self, even_width=True)
        positive("DimeNet.angular", self.angular)

    @classmethod
    def sized(
        cls,
        width: int | None = None,
        depth: int = 3,
        cutoff: float = 5.0,
        *,
        params: float | None = None,
        flops: float | None = None,
    ) -> DimeNet:
        """The DimeNet++ of this width, or of this budget (`models.sizing`).

        Messages are narrowed to a half and atoms widened to twice it, as in the paper.
        Angles are resolved up to degree 3, where the equivariance dial ends; the paper's 6 costs 3 times the harmonics.
        """
        return of_size(lambda w: cls(width=w, depth=depth, cutoff=cutoff), width, params, flops)

    def build(self, manifest: AtomicManifest) -> DimeNetPotential:
        """The module for data with this manifest, freshly initialised."""
        return DimeNetPotential(self, manifest)


class Bonds(NamedTuple):
    """What every block reads of the geometry.

    Attributes:
        source, target: (edges,), atoms.
        radial: (edges, radial).
        shells: (pairs, angular, radial), radial functions of each degree.
        harmonics: (edges, components), of the direction from source to target; P_l of an angle is a scalar product.
    """

    source: Tensor
    target: Tensor
    radial: Tensor
    shells: Tensor
    harmonics: Tensor


class DimeNetPotential(Potential):
    """A message for each directed bond, `depth` interaction blocks, and `depth + 1` outputs that tell of atoms."""

    def __init__(self, config: DimeNet, manifest: AtomicManifest) -> None:
        super().__init__(manifest, config.forces)
        width, self.cutoff = config.width, config.cutoff
        self.embedding = nn.Embedding(len(self.species), width)
        self.basis = Bessel(config.basis, config.cutoff)
        self.shells = SphericalBessel(config.angular, config.basis, config.cutoff)
        self.directions = Harmonics(config.angular - 1)
        self.first_radial, self.first = dense(config.basis, width), dense(3 * width, width)
        self.interactions = nn.ModuleList(Interaction(config) for _ in range(config.depth))
        self.readout = nn.ModuleList(Output(config) for _ in range(config.depth + 1))
        if config.forces == "direct":
            self.head = nn.ModuleList([dense(config.basis, width, bias=False), dense(width, 1, bias=False)])
            nn.init.zeros_(self.head[1].weight)  # type: ignore[arg-type]

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        return self._told(batch, self._bonds(batch, vectors, distances))[0]

    def atomic_outputs(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        bonds = self._bonds(batch, vectors, distances)
        energies, x = self._told(batch, bonds)
        radial, weigh = self.head
        unit = vectors / distances[:, None]  # (pairs, 3)
        along = weigh(silu(x) * radial(bonds.radial)) * torch.cat((-unit, unit))  # (edges, 3), from target to source
        return energies, along.new_zeros(energies.shape[0], 3).index_add_(0, bonds.target, along)

    def _told(self, batch: AtomicBatch, bonds: Bonds) -> tuple[Tensor, Tensor]:
        """(atoms,) energies and (edges, width) messages."""
        h = self.embedding(self.rows(batch.species))  # (atoms, width)
        ends = [h.index_select(0, atoms) for atoms in (bonds.target, bonds.source)]
        x = silu(self.first(torch.cat((*ends, silu(self.first_radial(bonds.radial))), 1)))  # (edges, width)
        outputs = iter(self.readout)
        energies = next(outputs)(x, bonds, h.shape[0])
        for interaction in self.interactions:
            x = interaction(x, bonds, h.shape[0])
            energies = energies + next(outputs)(x, bonds, h.shape[0])
        return energies.squeeze(-1), x

    def _bonds(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Bonds:
        first, second = batch.pairs
        fade = polynomial_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        radial = self.basis(distances) * (fade * math.sqrt(0.5 * self.cutoff) * self.cutoff)  # sin(n pi d/c) c/d
        shells = self.shells(distances) * (fade * self.cutoff / distances[:, None])[:, :, None]
        degrees = self.directions(vectors / distances[:, None])
        there = torch.cat([y / math.sqrt(y.shape[1]) for y in degrees], 1)  # (pairs, components), of squared length 1
        back = torch.cat([(-1) ** degree * y / math.sqrt(y.shape[1]) for degree, y in enumerate(degrees)], 1)
        ends = torch.cat((first, second)), torch.cat((second, first))
        return Bonds(*ends, radial.repeat(2, 1), shells, torch.cat((there, back)))


class Interaction(nn.Module):
    """Each message takes in those that arrive at its source, by distance and angle, but for the one it turns back."""

    def __init__(self, config: DimeNet) -> None:
        super().__init__()
        width, narrow, radial, angular = config.width, config.width // 2, config.basis, config.angular
        self.radial = nn.Sequential(dense(radial, BOTTLENECK, bias=False), dense(BOTTLENECK, width, bias=False))
        shells = dense(angular * radial, BOTTLENECK, bias=False).weight.detach()
        self.shells = nn.Parameter(shells.view(BOTTLENECK, angular, radial))
        self.angle = dense(BOTTLENECK, narrow, bias=False)
        self.sent, self.kept = dense(width, width), dense(width, width)
        self.down, self.up = dense(width, narrow, bias=False), dense(narrow, width, bias=False)
        self.before = nn.Sequential(*(Residual(width) for _ in range(BEFORE)))
        self.mixed = dense(width, width)
        self.after = nn.Sequential(*(Residual(width) for _ in range(AFTER)))
        self.weights = [math.sqrt((2 * degree + 1) / (4 * math.pi)) for degree in range(angular)]  # of Y_l0 beside P_l

    def forward(self, x: Tensor, bonds: Bonds, atoms: int) -> Tensor:
        """(edges, width) -> (edges, width)."""
        kept = silu(self.kept(x))
        sent = silu(self.down(silu(self.sent(x)) * self.radial(bonds.radial)))  # (edges, narrow)
        x = x + silu(self.mixed(self.before(kept + silu(self.up(self._triplets(sent, bonds, atoms))))))
        return self.after(x)

    def _triplets(self, sent: Tensor, bonds: Bonds, atoms: int) -> Tensor:
        """The sum over bonds k -> j with k other than i, for each bond j -> i: (edges, narrow) -> (edges, narrow)."""
        filters = self.angle(torch.einsum("plr,blr->plb", bonds.shells, self.shells))  # (pairs, angular, narrow)
        arriving = filters.repeat(2, 1, 1) * sent[:, None]  # (edges, angular, narrow)
        degrees = [w * arriving[:, degree, None] for degree, w in enumerate(self.weights)]  # (edges, 1, narrow) each
        spread = torch.cat([of.expand(-1, 2 * degree + 1, -1) for degree, of in enumerate(degrees)], 1)
        at = sent.new_zeros(atoms, spread.shape[1], sent.shape[1])
        at.index_add_(0, bonds.target, bonds.harmonics[:, :, None] * spread)  # (atoms, components, narrow)
        out = (bonds.harmonics[:, None] @ at.index_select(0, bonds.source)).squeeze(1)
        signs = [(-1) ** degree * of for degree, of in enumerate(degrees)]  # P_l(-1)
        back = torch.cat(signs, 1).sum(1)  # what the bond that goes back would add
        return out - torch.cat(back.chunk(2)[::-1])


class Residual(nn.Module):
    """Two layers beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = dense(width, width), dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + silu(self.two(silu(self.one(x))))


class Output(nn.Module):
    """What messages tell of the atom where they arrive."""

    def __init__(self, config: DimeNet) -> None:
        super().__init__()
        width, wide = config.width, 2 * config.width
        self.radial, self.up = dense(config.basis, width, bias=False), dense(width, wide, bias=False)
        layers = [layer for _ in range(OUTPUT) for layer in (dense(wide, wide), nn.SiLU())]
        self.layers = nn.Sequential(*layers, dense(wide, 1, bias=False))
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]  # as the paper starts

    def forward(self, x: Tensor, bonds: Bonds, atoms: int) -> Tensor:
        """(edges, width) -> (atoms, 1)."""
        arriving = x.new_zeros(atoms, x.shape[1]).index_add_(0, bonds.target, x * self.radial(bonds.radial))
        return self.layers(self.up(arriving))

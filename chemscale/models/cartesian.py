"""An unconstrained control: message passing whose filters see raw components of r_ij, after ForceNet (Hu et al. 2021).

Like ForceNet (arXiv 2103.01436) it is a continuous-filter network (SchNet's) whose filters depend on the whole vector
and not on its length alone, so that nothing makes its predictions turn with the structure; they can only learn to, from
rotated copies or a symmetry loss (`train.symmetry`). Translations, permutations, locality and smoothness stay.

Legend of shapes: atoms, pairs, edges (directed: all pairs, then all pairs turned round), basis, width (channels, last).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.potential import LOCAL, READOUT_GAIN, Potential, PotentialConfig, atomwise, check_dials, dense
from chemscale.models.radial import Bessel, cosine_cutoff
from chemscale.models.sizing import of_size
from chemscale.spec import added_since, register_model

PER_ANGSTROM = 4.0  # Bessel functions, as many as PaiNN's


@register_model
@dataclass(frozen=True)
class Cartesian(PotentialConfig):
    """What this control is; `sized` derives it from its width.

    Args:
        width: channels of atoms and of filters.
        depth: interaction blocks.
        cutoff: angstrom.
        basis: Bessel functions of the distance; filters see each of them, alone and times the three components of the
            direction.
        forces: "gradient", or "direct": three numbers of each atom, as ForceNet predicts them.

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 3
    cutoff: float = 5.0
    basis: int = 20
    forces: str = added_since(1, "gradient")

    architecture: ClassVar[str] = "cartesian"
    objective: ClassVar[str] = "energy_force_turned"
    traits: ClassVar[frozenset[str]] = frozenset({LOCAL})

    def __post_init__(self) -> None:
        check_dials(self, even_width=True)

    @classmethod
    def sized(
        cls,
        width: int | None = None,
        depth: int = 3,
        cutoff: float = 5.0,
        *,
        params: float | None = None,
        flops: float | None = None,
    ) -> Cartesian:
        """The control of this width, or of this budget (`models.sizing`).

        As many radial functions per angstrom, layers and halvings as PaiNN's.
        """
        basis = max(2, round(cutoff * PER_ANGSTROM))
        return of_size(lambda w: cls(width=w, depth=depth, cutoff=cutoff, basis=basis), width, params, flops)

    def build(self, manifest: AtomicManifest) -> CartesianPotential:
        """The module for data with this manifest, freshly initialised."""
        return CartesianPotential(self, manifest)


class CartesianPotential(Potential):
    """Energies (and, if asked, forces) of atoms from `depth` interaction blocks and a two-layer readout."""

    def __init__(self, config: Cartesian, manifest: AtomicManifest) -> None:
        super().__init__(manifest, config.forces)
        self.cutoff = config.cutoff
        self.embedding = nn.Embedding(len(self.species), config.width)
        self.basis = Bessel(config.basis, config.cutoff)
        self.interactions = nn.ModuleList(Interaction(config.width, 4 * config.basis) for _ in range(config.depth))
        self.readout = atomwise(config.width, nn.SiLU())
        if config.forces == "direct":
            self.head = nn.Sequential(dense(config.width, config.width), nn.SiLU(), dense(config.width, 3, bias=False))
            with torch.no_grad():
                self.head[-1].weight.mul_(READOUT_GAIN)  # type: ignore[operator]

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        return self.readout(self._features(batch, vectors, distances)).squeeze(-1)

    def atomic_outputs(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        x = self._features(batch, vectors, distances)
        return self.readout(x).squeeze(-1), self.head(x)

    def _features(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        fade = cosine_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        radial = self.basis(distances)  # (pairs, basis)
        directed = (radial[:, None] * (vectors / distances[:, None])[:, :, None]).flatten(1)  # (pairs, 3 * basis)
        seen = torch.cat((torch.cat((radial, directed), 1), torch.cat((radial, -directed), 1)))  # (edges, 4 * basis)
        here, there = torch.cat((batch.pairs, batch.pairs.flip(0)), 1)  # from r_here to r_there
        x = self.embedding(self.rows(batch.species))  # (atoms, width)
        for interaction in self.interactions:
            x = x + interaction(x, seen, fade.repeat(2, 1), here, there)
        return x


class Interaction(nn.Module):
    """SchNet's interaction block with filters of the vector: a layer, a convolution, two layers."""

    def __init__(self, width: int, seen: int) -> None:
        super().__init__()
        self.filter = nn.Sequential(dense(seen, width), nn.SiLU(), dense(width, width))
        self.inward = dense(width, width, bias=False)
        self.outward = nn.Sequential(dense(width, width), nn.SiLU(), dense(width, width))

    def forward(self, x: Tensor, seen: Tensor, fade: Tensor, here: Tensor, there: Tensor) -> Tensor:
        """(atoms, width), (edges, 4 * basis), (edges, 1), (edges,) twice -> (atoms, width)."""
        messages = self.filter(seen) * fade * self.inward(x).index_select(0, there)  # (edges, width)
        return self.outward(torch.zeros_like(x).index_add(0, here, messages))

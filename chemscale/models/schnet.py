"""SchNet: continuous-filter convolutions on atoms (Schütt et al., NeurIPS 2017, arXiv 1706.08566).

Legend of shapes: atoms, pairs, basis (radial functions), width (channels, always last).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.direct import PairForces
from chemscale.models.potential import Potential, PotentialConfig, atomwise, check_dials, dense, neighbour_sum
from chemscale.models.radial import Gaussian, cosine_cutoff
from chemscale.models.sizing import of_size
from chemscale.models.spline import Table, blended
from chemscale.spec import added_since, register_model

SPACING = 0.2  # angstrom between Gaussians: 25 at 5 angstrom in SchNetPack 1.0, 50 at 10 angstrom in PyTorch Geometric

KNOTS = 8  # in the width of a Gaussian: splines err less than float32 does, of weights 8 times as large as at the start

Filters = Callable[[nn.Module], Tensor]  # a filter network -> (pairs, width), W times the cutoff


@register_model
@dataclass(frozen=True)
class SchNet(PotentialConfig):
    """What a SchNet is; `sized` derives it from its width.

    Args:
        width: channels of atoms and of filters (one number in the paper, 64 there).
        depth: interaction blocks (3 in the paper).
        cutoff: angstrom.
        basis: Gaussians of the distance.
        forces: "gradient", or "direct" from a head along pairs (`models.direct`).

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 3
    cutoff: float = 5.0
    basis: int = 25
    forces: str = added_since(1, "gradient")

    architecture: ClassVar[str] = "schnet"
    flops_rule: ClassVar[int] = 2  # filters read off a table (`models.spline`); at every pair before

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
    ) -> SchNet:
        """The SchNet of this width, or of this budget (`models.sizing`).

        Gaussians 0.2 angstrom apart, filters and readout as wide as the paper's.
        """
        basis = max(2, round(cutoff / SPACING))
        return of_size(lambda w: cls(width=w, depth=depth, cutoff=cutoff, basis=basis), width, params, flops)

    def build(self, manifest: AtomicManifest) -> SchNetPotential:
        """The module for data with this manifest, freshly initialised."""
        return SchNetPotential(self, manifest)


class SchNetPotential(Potential):
    """Energies of atoms from `depth` interaction blocks and a two-layer readout (figure 2 of the paper).

    In training mode filters are read off a table (`models.spline`), which is made once for a batch, however many pairs
    it has: a step takes half the time, and its gradients agree with those of `eval()` to 1e-6 of their size. In
    evaluation mode, for single structures and exported programs, they are evaluated at every pair.
    """

    def __init__(self, config: SchNet, manifest: AtomicManifest) -> None:
        super().__init__(manifest, config.forces)
        self.cutoff = config.cutoff
        self.embedding = nn.Embedding(len(self.species), config.width)
        self.basis = Gaussian(config.basis, config.cutoff)
        self.table = Table(KNOTS * (config.basis - 1), config.cutoff)
        self.interactions = nn.ModuleList(Interaction(config.width, config.basis) for _ in range(config.depth))
        self.readout = atomwise(config.width, ShiftedSoftplus())
        if config.forces == "direct":
            self.head = PairForces(config.width, config.basis)

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        return self.readout(self._features(batch, distances)).squeeze(-1)

    def atomic_outputs(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        x = self._features(batch, distances)
        unit = vectors / distances[:, None]  # (pairs, 3)
        fade = cosine_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        return self.readout(x).squeeze(-1), self.head(x, self.basis(distances), fade, unit, batch.pairs)

    def _features(self, batch: AtomicBatch, distances: Tensor) -> Tensor:
        filters = self._tabulated(distances) if self.training else self._evaluated(distances)
        x = self.embedding(self.rows(batch.species))  # (atoms, width), eq. 2
        for interaction in self.interactions:
            x = x + interaction(x, filters, batch.pairs)  # eq. 4
        return x

    def _evaluated(self, distances: Tensor) -> Filters:
        """Filter networks at every distance."""
        basis = self.basis(distances)  # (pairs, basis)
        fade = cosine_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        return lambda network: network(basis) * fade

    def _tabulated(self, distances: Tensor) -> Filters:
        """Filter networks at knots, in float64, and between them by splines."""
        basis = self.basis(self.table.sites())  # (sites, basis)
        places, weights = self.table.places(distances)
        faded = weights * cosine_cutoff(distances, self.cutoff)[:, None]  # (pairs, 6)

        def read(network: nn.Module) -> Tensor:
            wide = {name: parameter.double() for name, parameter in network.named_parameters()}
            values = functional_call(network, wide, (basis,))  # (sites, width)
            return blended(self.table.coefficients(values).to(distances.dtype), faded, places)

        return read


class Interaction(nn.Module):
    """One interaction block: atom-wise layer, continuous-filter convolution, two atom-wise layers.

    The filter network sees each pair once, since its output depends on the distance only; the convolution uses it in
    both directions. A cosine cutoff multiplies the filters (SchNetPack), so that energies and forces are continuous.
    """

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.filter = nn.Sequential(dense(basis, width), ShiftedSoftplus(), dense(width, width))
        self.inward = dense(width, width, bias=False)
        self.outward = nn.Sequential(dense(width, width), ShiftedSoftplus(), dense(width, width))

    def forward(self, x: Tensor, filters: Filters, pairs: Tensor) -> Tensor:
        """(atoms, width), what makes W(r_i - r_j) of eq. 5, (2, pairs) -> (atoms, width), the residual v of eq. 4."""
        return self.outward(neighbour_sum(self.inward(x), filters(self.filter), pairs))  # eq. 3


class ShiftedSoftplus(nn.Module):
    """`ln(exp(x) / 2 + 1 / 2)`: smooth at every order, 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x) - math.log(2.0)

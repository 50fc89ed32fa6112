"""PaiNN: equivariant message passing with scalars and vectors (Schütt et al., ICML 2021, arXiv 2102.03150).

Legend of shapes: atoms, pairs, basis (radial functions), width (channels, always last), 3 (Cartesian components).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.direct import VectorForces
from chemscale.models.potential import Potential, PotentialConfig, atomwise, check_dials, dense, neighbour_sum
from chemscale.models.radial import Bessel, cosine_cutoff
from chemscale.models.sizing import of_size
from chemscale.spec import added_since, register_model

PER_ANGSTROM = 4.0  # Bessel functions: 20 at 5 angstrom in the paper, section 5
NORM_FLOOR = 1e-8  # under the root of |Vv|, so that it has a slope at 0; SchNetPack's value

State = tuple[Tensor, Tensor]  # s (atoms, width) and v (atoms, 3, width)


@register_model
@dataclass(frozen=True)
class PaiNN(PotentialConfig):
    """What a PaiNN is; `sized` derives it from its width.

    Args:
        width: channels of scalars and of vectors (128 in the paper).
        depth: message and update blocks (3 in the paper).
        cutoff: angstrom (5 in the paper).
        basis: Bessel functions of the distance (20 in the paper).
        forces: "gradient", or "direct" from the vectors, by a gated head (`models.direct`).

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 3
    cutoff: float = 5.0
    basis: int = 20
    forces: str = added_since(1, "gradient")

    architecture: ClassVar[str] = "painn"

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
    ) -> PaiNN:
        """The PaiNN of this width, or of this budget (`models.sizing`).

        As many radial functions per angstrom, layers and halvings as the paper's.
        """
        basis = max(2, round(cutoff * PER_ANGSTROM))
        return of_size(lambda w: cls(width=w, depth=depth, cutoff=cutoff, basis=basis), width, params, flops)

    def build(self, manifest: AtomicManifest) -> PaiNNPotential:
        """The module for data with this manifest, freshly initialised."""
        return PaiNNPotential(self, manifest)


class PaiNNPotential(Potential):
    """Energies of atoms from `depth` message and update blocks and a two-layer readout (figure 2 of the paper).

    Two sets of rows that the paper lists never touch an energy and are left out: in the first message those that gate
    v_j, which is 0 there, and in the last update those that make a vector, which only direct forces read.
    """

    def __init__(self, config: PaiNN, manifest: AtomicManifest) -> None:
        super().__init__(manifest, config.forces)
        width, depth = config.width, config.depth
        self.cutoff = config.cutoff
        self.embedding = nn.Embedding(len(self.species), width)
        self.basis = Bessel(config.basis, config.cutoff)
        branches = [2] + [3] * (depth - 1)
        self.messages = nn.ModuleList(Message(width, config.basis, n) for n in branches)
        last = 3 if config.forces == "direct" else 2
        self.updates = nn.ModuleList(Update(width, n) for n in [3] * (depth - 1) + [last])
        self.readout = atomwise(width, nn.SiLU())
        if config.forces == "direct":
            self.head = VectorForces(width)

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        return self.readout(self._state(batch, vectors, distances)[0]).squeeze(-1)

    def atomic_outputs(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        s, v = self._state(batch, vectors, distances)
        return self.readout(s).squeeze(-1), self.head(s, v)

    def _state(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> State:
        fade = cosine_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        radial = torch.cat((self.basis(distances), torch.ones_like(fade)), 1) * fade  # (pairs, basis + 1)
        unit = (vectors / distances[:, None])[:, :, None]  # (pairs, 3, 1)
        s = self.embedding(self.rows(batch.species))  # (atoms, width)
        v = None  # zero before the first message
        for message, update in zip(self.messages, self.updates, strict=True):
            s, v = message(s, v, radial, unit, batch.pairs)
            s, v = update(s, v)
        assert v is not None  # there is at least one block
        return s, v


class Message(nn.Module):
    """The message block: radial filters times atom-wise features, summed over neighbours (section 4.2, figure 2b).

    Filters depend on the distance only, so each pair's is evaluated once and used in both directions; the direction
    r_ij / |r_ij| changes its sign. What depends on the sender alone is multiplied before it is spread over pairs.

    Args:
        width: channels.
        basis: radial functions.
        branches: 3 in the paper (s, r and v); 2 leaves out v's, for the first message.
    """

    def __init__(self, width: int, basis: int, branches: int) -> None:
        super().__init__()
        self.width = width
        self.phi = nn.Sequential(dense(width, width), nn.SiLU(), dense(width, branches * width))
        self.filter = dense(basis + 1, branches * width, bias=False)  # its last column is the paper's bias
        with torch.no_grad():
            self.filter.weight[:, -1] = 0.0

    def forward(self, s: Tensor, v: Tensor | None, radial: Tensor, unit: Tensor, pairs: Tensor) -> State:
        """(atoms, width), (atoms, 3, width), (pairs, basis + 1), (pairs, 3, 1), (2, pairs) -> new s and v."""
        phi = self.phi(s).split(self.width, -1)  # (atoms, width) each
        filters = self.filter(radial).split(self.width, -1)  # (pairs, width) each, the paper's W times the cutoff
        directed = filters[1][:, None] * unit  # (pairs, 3, width)
        steps = neighbour_sum(phi[1][:, None], directed, pairs, parity=-1)  # (atoms, 3, width), eq. 8, second term
        if v is not None:
            steps = steps + v + neighbour_sum(phi[2][:, None] * v, filters[2][:, None], pairs)  # eq. 8, first term
        return s + neighbour_sum(phi[0], filters[0], pairs), steps  # eq. 7


class Update(nn.Module):
    """The update block: each atom mixes its own scalars and vectors (section 4.2, figure 2c).

    Args:
        width: channels.
        branches: 3 in the paper (ss, sv and vv); 2 leaves out vv's, for the last update.
    """

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.width = width
        self.mix = dense(width, 2 * width, bias=False)  # U and V
        self.gates = nn.Sequential(dense(2 * width, width), nn.SiLU(), dense(width, branches * width))

    def forward(self, s: Tensor, v: Tensor) -> State:
        """(atoms, width), (atoms, 3, width) -> new s and v."""
        left, right = self.mix(v).split(self.width, -1)  # (atoms, 3, width) each, Uv and Vv
        norm = (right.square().sum(1) + NORM_FLOOR).sqrt()  # (atoms, width)
        gates = self.gates(torch.cat((s, norm), -1)).split(self.width, -1)  # (atoms, width) each
        s = s + gates[0] + gates[1] * (left * right).sum(1)  # eq. 9
        return s, v + gates[2][:, None] * left if len(gates) == 3 else v  # eq. 10

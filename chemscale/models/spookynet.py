"""SpookyNet: local and nonlocal interactions, total charge and spin (Unke et al., Nat. Commun. 12, 7273, 2021).

Energies are learnt whole: the paper's electrostatics and dispersion, which need every pair of a structure and tables of
reference systems, are not here; its repulsion is an option. Legend of shapes: atoms, pairs, structures, basis (radial
functions), width (channels, always last), 3 and 5 (components of p and d functions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.direct import PairForces
from chemscale.models.electrons import descriptors
from chemscale.models.performer import Performer
from chemscale.models.potential import (
    EQUIVARIANT,
    READOUT_GAIN,
    TRAITS,
    Potential,
    PotentialConfig,
    check_dials,
    neighbour_sum,
)
from chemscale.models.radial import ExponentialBernstein, smooth_cutoff
from chemscale.models.repulsion import Repulsion
from chemscale.models.sizing import of_size
from chemscale.spec import added_since, register_model
from chemscale.values import one_of

STEEPNESS = 1.702  # beta of the activations at the start, where they resemble GELU
ATTENTION = ("performer", "none")
REPULSION = ("none", "zbl")


@register_model
@dataclass(frozen=True)
class SpookyNet(PotentialConfig):
    """What a SpookyNet is; `sized` derives it from its width.

    Nonlocal attention is the paper's, by random features: linear in atoms, so that a batch needs no padding and its
    cost stays a count. It never crosses from one structure to another.

    Args:
        width: channels (128 in the paper).
        depth: interaction modules (6 in the paper).
        cutoff: angstrom (10 bohr in the paper).
        basis: exponential Bernstein polynomials (16 in the paper).
        attention: "performer" for the nonlocal interaction, with as many random features as channels; "none" without.
        repulsion: "zbl" adds the screened repulsion of nuclei with trainable screening; "none" does not.
        forces: "gradient", or "direct" from a head along pairs (`models.direct`).

    Raises:
        ValueError: a field is out of range.
    """

    width: int
    depth: int = 3
    cutoff: float = 5.0
    basis: int = 16
    attention: str = "performer"
    repulsion: str = "none"
    forces: str = added_since(1, "gradient")

    architecture: ClassVar[str] = "spookynet"

    def __post_init__(self) -> None:
        check_dials(self, even_width=True)
        one_of("SpookyNet.attention", self.attention, ATTENTION)
        one_of("SpookyNet.repulsion", self.repulsion, REPULSION)

    @classmethod
    def sized(
        cls,
        width: int | None = None,
        depth: int = 3,
        cutoff: float = 5.0,
        *,
        params: float | None = None,
        flops: float | None = None,
    ) -> SpookyNet:
        """The SpookyNet of this width, or of this budget (`models.sizing`).

        Its radial functions reach as far as their decay, whatever the cutoff.
        """
        return of_size(lambda w: cls(width=w, depth=depth, cutoff=cutoff), width, params, flops)

    @property
    def traits(self) -> frozenset[str]:
        """Attention joins atoms at any distance."""
        return TRAITS if self.attention == "none" else frozenset({EQUIVARIANT})

    @property
    def variant(self) -> str:
        """ "local" without attention, which is another law; and the kind of its forces."""
        return "_".join(filter(None, ("local" if self.attention == "none" else "", super().variant)))

    def build(self, manifest: AtomicManifest) -> SpookyNetPotential:
        """The module for data with this manifest, freshly initialised."""
        return SpookyNetPotential(self, manifest)


class SpookyNetPotential(Potential):
    """Embeddings of elements, charge and spin, `depth` interaction modules, and a linear readout.

    The paper's own energy of each element is left to the reference energies of the data.
    """

    def __init__(self, config: SpookyNet, manifest: AtomicManifest) -> None:
        super().__init__(manifest, config.forces)
        width, self.cutoff = config.width, config.cutoff
        self.electrons: Tensor
        self.register_buffer("electrons", descriptors(self.species), persistent=False)
        self.embedding = nn.Embedding(len(self.species), width)
        nn.init.uniform_(self.embedding.weight, -math.sqrt(3), math.sqrt(3))
        self.configuration = orthogonal(self.electrons.shape[1], width, bias=False)
        self.charge, self.spin = ElectronicEmbedding(width, 2), ElectronicEmbedding(width, 1)
        self.basis = ExponentialBernstein(config.basis)
        self.interactions = nn.ModuleList(Interaction(width, config) for _ in range(config.depth))
        self.readout = orthogonal(width, 1)
        with torch.no_grad():
            self.readout.weight.mul_(READOUT_GAIN)
        if config.repulsion == "zbl":
            self.repulsion = Repulsion()
        if config.forces == "direct":
            self.head = PairForces(width, config.basis)

    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        return self._read(batch, distances, *self._features(batch, vectors, distances))

    def atomic_outputs(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        features, radial, fade = self._features(batch, vectors, distances)
        unit = vectors / distances[:, None]
        forces = self.head(features, radial, fade, unit, batch.pairs)
        return self._read(batch, distances, features, radial, fade), forces

    def _features(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fade = smooth_cutoff(distances, self.cutoff)[:, None]  # (pairs, 1)
        radial = self.basis(distances) * fade  # (pairs, basis)
        p = vectors / distances[:, None]  # (pairs, 3)
        geometry = (radial, p[:, :, None], second_order(p)[:, :, None])
        x = self._embedded(batch, distances)  # (atoms, width)
        features = torch.zeros_like(x)
        for interaction in self.interactions:
            x, told = interaction(x, geometry, batch)
            features = features + told
        return features, radial, fade

    def _embedded(self, batch: AtomicBatch, like: Tensor) -> Tensor:
        """Elements by their own rows and by their electrons, charge and spin of the structure by attention."""
        rows = self.rows(batch.species)
        x = self.embedding(rows) + self.configuration(self.electrons.index_select(0, rows))  # (atoms, width)
        none = like.new_zeros(batch.structures)
        charge = none if batch.charge is None else batch.charge.to(like)
        spin = none if batch.spin is None else batch.spin.to(like)
        signed = torch.stack((charge, -charge), 1).relu()  # (structures, 2): cations and anions apart
        return x + self.charge(x, signed, batch) + self.spin(x, spin.abs()[:, None], batch)

    def _read(self, batch: AtomicBatch, distances: Tensor, features: Tensor, radial: Tensor, fade: Tensor) -> Tensor:
        energies = self.readout(features).squeeze(-1)
        if hasattr(self, "repulsion"):
            energies = energies + self.repulsion(batch.species, distances, fade, batch.pairs) / self.scale
        return energies


class Activation(nn.Module):
    """`alpha x sigmoid(beta x)` with a scale and a steepness for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.full((width,), STEEPNESS))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * x * torch.sigmoid(self.beta * x)


class Residual(nn.Module):
    """A residual block: two layers, each behind its activation; the identity at the start."""

    def __init__(self, width: int, *, bias: bool = True) -> None:
        super().__init__()
        last = zero(width, bias=bias)
        self.branch = nn.Sequential(Activation(width), orthogonal(width, width, bias=bias), Activation(width), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def residual_mlp(width: int, last: nn.Linear, *, bias: bool = True) -> nn.Sequential:
    """A residual block, an activation and a last layer."""
    return nn.Sequential(Residual(width, bias=bias), Activation(width), last)


class ElectronicEmbedding(nn.Module):
    """Shares a number of the whole structure out among its atoms, by attention to their elements.

    Without biases behind the attention, so that 0 stays 0: neutral singlets never feel it.

    Args:
        width: channels.
        kinds: non-negative numbers by which a structure is described.
    """

    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.query = orthogonal(width, width)
        self.key, self.value = orthogonal(kinds, width, bias=False), orthogonal(kinds, width, bias=False)
        self.out = residual_mlp(width, zero(width, bias=False), bias=False)

    def forward(self, x: Tensor, amount: Tensor, batch: AtomicBatch) -> Tensor:
        """(atoms, width), (structures, kinds) -> (atoms, width)."""
        keys = self.key(amount / amount.clamp(min=1.0)).index_select(0, batch.owner)  # (atoms, width)
        dots = (self.query(x) * keys).sum(1) / math.sqrt(x.shape[1])
        weights = nn.functional.softplus(dots)  # (atoms,)
        total = weights.new_zeros(batch.structures).index_add_(0, batch.owner, weights)
        shares = weights / total.index_select(0, batch.owner)
        return self.out(shares[:, None] * self.value(amount).index_select(0, batch.owner))


class Interaction(nn.Module):
    """An interaction module: features refined, what neighbours and the whole structure add, and what it tells."""

    def __init__(self, width: int, config: SpookyNet) -> None:
        super().__init__()
        self.before, self.after = Residual(width), Residual(width)
        self.local = Local(width, config.basis)
        self.wide = Nonlocal(width) if config.attention == "performer" else None
        self.told = residual_mlp(width, orthogonal(width, width))

    def forward(self, x: Tensor, geometry: tuple[Tensor, Tensor, Tensor], batch: AtomicBatch) -> tuple[Tensor, Tensor]:
        x = self.before(x)
        y = x + self.local(x, geometry, batch.pairs)
        if self.wide is not None:
            y = y + self.wide(x, batch)
        x = self.after(y)
        return x, self.told(x)


class Local(nn.Module):
    """What neighbours within the cutoff add, by s, p and d functions.

    The sums of p and d functions over neighbours are contracted to scalars: angles are seen, and only scalars stay.
    Radial filters of a pair serve both directions, p functions with their sign changed.
    """

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.own = residual_mlp(width, orthogonal(width, width))
        self.sent = nn.ModuleList(residual_mlp(width, orthogonal(width, width)) for _ in "spd")
        self.radial = orthogonal(basis, 3 * width, bias=False)
        self.contract = nn.ModuleList(orthogonal(width, 2 * width, bias=False) for _ in "pd")
        self.out = residual_mlp(width, zero(width))

    def forward(self, x: Tensor, geometry: tuple[Tensor, Tensor, Tensor], pairs: Tensor) -> Tensor:
        radial, p, d = geometry
        filters = self.radial(radial).chunk(3, -1)  # (pairs, width) each
        total = self.own(x) + neighbour_sum(self.sent[0](x), filters[0], pairs)
        for k, (shape, parity) in enumerate(((p, -1), (d, 1)), 1):
            gathered = neighbour_sum(self.sent[k](x)[:, None], filters[k][:, None] * shape, pairs, parity)
            left, right = self.contract[k - 1](gathered).chunk(2, -1)  # (atoms, components, width) each
            total = total + (left * right).sum(1)
        return self.out(total)


class Nonlocal(nn.Module):
    """What all atoms of the structure add, by attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (residual_mlp(width, zero(width)) for _ in range(3))
        self.attention = Performer(width, width)

    def forward(self, x: Tensor, batch: AtomicBatch) -> Tensor:
        return self.attention(self.query(x), self.key(x), self.value(x), batch.owner, batch.structures)


def second_order(p: Tensor) -> Tensor:
    """The five d functions of unit vectors, each set's squares summing to 1: (pairs, 3) -> (pairs, 5)."""
    x, y, z = p.unbind(1)
    root = math.sqrt(3.0)
    return torch.stack(
        (root * x * y, root * x * z, root * y * z, 0.5 * (3 * z * z - 1), 0.5 * root * (x * x - y * y)), 1
    )


def orthogonal(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer that starts orthogonal, its bias at 0."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def zero(width: int, *, bias: bool = True) -> nn.Linear:
    """A square linear layer that starts at 0."""
    layer = nn.Linear(width, width, bias=bias)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer

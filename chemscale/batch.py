"""What a model sees: immutable batches, and the manifest by which data describe themselves to a model.

Legend of shapes: batch (examples), length (tokens), atoms, pairs, structures. Lengths are in angstrom, energies in eV,
forces in eV/angstrom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Strings as token ids, padded on the right.

    Attributes:
        tokens: (batch, length) int64, each row `start … end pad pad`.
        lengths: (batch,) int64, tokens of each row with its start and end token.
    """

    tokens: Tensor
    lengths: Tensor

    @property
    def examples(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        return TokenBatch(self.tokens.to(device, non_blocking=True), self.lengths.to(device, non_blocking=True))

    def packed(self) -> PackedTokens:
        """The same strings end to end, without padding."""
        import torch

        fed, steps = self.lengths - 1, torch.arange(self.tokens.shape[1] - 1, device=self.tokens.device)
        real = steps < fed[:, None]  # (batch, length - 1)
        positions = steps.expand_as(real)[real]
        return PackedTokens(
            self.tokens[:, :-1][real], self.tokens[:, 1:][real], positions, fed, int(fed.max()) if len(fed) else 0
        )


@dataclass(frozen=True)
class PackedTokens:
    """Strings as token ids, laid end to end; positions start again with each, and none sees another.

    Attributes:
        inputs, targets: (tokens,) int64, each string without its last token, and without its first.
        positions: (tokens,) int64, place of each input in its own string.
        fed: (batch,) int64, inputs of each string.
        longest: inputs of the longest string.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    fed: Tensor
    longest: int

    @property
    def examples(self) -> int:
        return self.fed.shape[0]

    @property
    def lengths(self) -> Tensor:
        """(batch,) int64, tokens of each string with its start and end token, as in `TokenBatch`."""
        return self.fed + 1

    def to(self, device: torch.device | str) -> PackedTokens:
        """The same batch on another device."""
        tensors = {name: getattr(self, name) for name in ("inputs", "targets", "positions", "fed")}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class AtomicBatch:
    """Structures, laid end to end, with every pair of atoms within a cutoff listed once.

    Attributes:
        species: (atoms,) int64, atomic numbers.
        positions: (atoms, 3), angstrom.
        owner: (atoms,) int64, the structure that each atom belongs to, ascending.
        pairs: (2, pairs) int64, atoms i and j of the same structure with |r_j + shift - r_i| < cutoff. Each pair stands
            once: i < j where nothing is periodic; else one of (i, j, shift) and (j, i, -shift), where i may be j.
        structures: how many structures.
        energy: (structures,), eV, the label minus the reference energies of its atoms; NaN where a structure has none,
            None where no label is at hand.
        forces: (atoms, 3), eV/angstrom; NaN and None alike.
        shifts: (pairs, 3), angstrom, the lattice vector that brings j to the image that is meant; None: all are 0.
        cell: (structures, 3, 3), angstrom, lattice vectors in rows, 0 for those without; None: no structure has any.
        charge: (structures,), elementary charges; None: all are neutral.
        spin: (structures,), unpaired electrons (0 for a singlet); None: all are 0.
        turn: (structures, 3, 3), a rotation drawn for each structure and step, where the objective asks for one.
    """

    species: Tensor
    positions: Tensor
    owner: Tensor
    pairs: Tensor
    structures: int
    energy: Tensor | None = None
    forces: Tensor | None = None
    shifts: Tensor | None = None
    cell: Tensor | None = None
    charge: Tensor | None = None
    spin: Tensor | None = None
    turn: Tensor | None = None

    @property
    def examples(self) -> int:
        return self.structures

    def to(self, device: torch.device | str) -> AtomicBatch:
        """The same batch on another device."""
        return self._mapped(lambda t: t.to(device, non_blocking=True))

    def astype(self, dtype: torch.dtype) -> AtomicBatch:
        """The same batch with positions, energies and forces in another floating type."""
        return self._mapped(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def _mapped(self, change: Any) -> AtomicBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "structures"}
        return replace(self, **{k: None if t is None else change(t) for k, t in tensors.items()})


@dataclass(frozen=True)
class Manifest:
    """What built data say of themselves; stored as `manifest.json` beside the arrays.

    Attributes:
        source: name or path it was built from.
        family: "text" or "structures".
        content: checksum of all that can change a number: arrays, splits, builder version.
        builder: version of the code that built it.
        counts: examples per split ("train", "valid", "test"), and what was rejected, by reason.
        totals: tokens, or atoms, over the training split.
        licence, citation, units, label_noise: for reports.
    """

    source: str
    family: str
    content: str
    builder: int
    counts: Mapping[str, int]
    totals: Mapping[str, float]
    rejected: Mapping[str, int] = field(default_factory=dict)
    licence: str = "unknown"
    citation: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TextManifest(Manifest):
    """Manifest of strings: `vocabulary[id]` is the token's text; `pad`, `start` and `end` are ids.

    `longest` is the longest example in tokens with start and end; `representation` is what the strings are written in.
    """

    vocabulary: tuple[str, ...] = ()
    pad: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3
    longest: int = 0
    representation: str = "selfies"


@dataclass(frozen=True)
class AtomicManifest(Manifest):
    """Manifest of structures.

    Attributes:
        species: atomic numbers that occur in the training pool, ascending.
        reference: eV per atom of each species, least squares over the whole training pool, by atomic number.
        scale: eV/angstrom, root mean square of all force components of the training pool.
        largest: atoms of the largest structure.
        label_noise: measured floors: "energy_mae", "energy_rmse" (eV/atom), "force_mae", "force_rmse" (eV/angstrom).
    """

    species: tuple[int, ...] = ()
    reference: Mapping[int, float] = field(default_factory=dict)
    scale: float = 1.0
    largest: int = 0
    label_noise: Mapping[str, float] = field(default_factory=dict)

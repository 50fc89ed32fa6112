"""Built examples as a training loop sees them: ids in, batches out, everything else memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chemscale.batch import AtomicBatch, AtomicManifest, Manifest, TextManifest, TokenBatch
from chemscale.data.neighbours import neighbours
from chemscale.data.store import open_arrays, ragged_index
from chemscale.data.subsets import SPLITS, nested_order, scattered_order
from chemscale.data.tokens import decode

_AT_A_TIME = 4096  # structures whose pairs are counted together
ORDERS = 4  # orders of the training examples that are kept; each is as long as there are examples


class Examples(Protocol):
    """Examples of either family; ids are int64 and number the examples of all splits."""

    manifest: Manifest

    def subset(self, size: int | None, key: int, per_group: int | None) -> np.ndarray:
        """(size,) ids of training examples in nested order: a smaller size is a prefix of a larger one."""
        ...

    def split(self, name: str, count: int | None = None) -> np.ndarray:
        """(count,) ids of "valid" or "test" in a fixed hash order; None takes all."""
        ...

    def batch(self, ids: np.ndarray) -> Any:
        """A `TokenBatch` or `AtomicBatch` of CPU tensors."""
        ...

    def lengths(self, ids: np.ndarray) -> np.ndarray:
        """(ids,) int64, tokens with start and end, or atoms."""
        ...

    def groups(self, ids: np.ndarray) -> np.ndarray:
        """(ids,) int64, the group of each example."""
        ...

    def count(self, ids: np.ndarray) -> dict[str, int]:
        """Unique units of the examples: molecules and tokens, or structures, atoms, edges and groups."""
        ...

    def units(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """What the work on each example depends on: input tokens, or atoms and pairs; (ids,) int64 each."""
        ...


class _Stored:
    """What both families share: orders, splits and groups."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.arrays = open_arrays(folder)
        self.offsets = self.arrays["offsets"]
        self._train = np.flatnonzero(self.arrays["split"] == 0)
        self._orders: dict[tuple[int, int | None], np.ndarray] = {}  # each as long as anybody has asked for
        self._held_out: dict[str, np.ndarray] = {}

    def subset(self, size: int | None, key: int, per_group: int | None) -> np.ndarray:
        order = self._order(key, per_group, size)
        limit = "" if per_group is None else f" with per_group={per_group}"
        return _prefix(order, size, f"Data.size={size}", f"training examples{limit}")

    def split(self, name: str, count: int | None = None) -> np.ndarray:
        if name not in SPLITS[1:]:
            raise ValueError(f"split {name!r} is unknown; it is one of {', '.join(SPLITS[1:])} (training: `subset`).")
        if name not in self._held_out:
            ids = np.flatnonzero(self.arrays["split"] == SPLITS.index(name))
            self._held_out[name] = scattered_order(ids, self.arrays["member_digest"], name)
        return _prefix(self._held_out[name], count, f"Evaluation.{name}={count}", f"{name} examples")

    def groups(self, ids: np.ndarray) -> np.ndarray:
        return np.asarray(self.arrays["group"][ids])

    def _sizes(self, ids: np.ndarray) -> np.ndarray:
        return self.offsets[np.asarray(ids) + 1] - self.offsets[ids]

    def _order(self, key: int, per_group: int | None, count: int | None) -> np.ndarray:
        """The first `count` of an order, or more; fewer where there are no more."""
        count = len(self._train) if count is None or count < 1 else count
        known = self._orders.get((key, per_group))
        if known is not None and len(known) >= count:
            return known
        if known is None and len(self._orders) >= ORDERS:
            del self._orders[next(iter(self._orders))]
        digests = self.arrays["group_digest"], self.arrays["member_digest"]
        order = nested_order(self._train, self.arrays["group"], *digests, key, per_group, count)
        self._orders[key, per_group] = order
        return order


class TextExamples(_Stored):
    """Molecules as token ids; see `Examples`."""

    def __init__(self, folder: Path, manifest: TextManifest, context: int) -> None:
        super().__init__(folder, manifest)
        self.manifest = manifest
        self._refuse_long(context)

    def batch(self, ids: np.ndarray) -> TokenBatch:
        import torch

        where, inner = ragged_index(self.offsets, ids)
        lengths = inner + 2
        tokens = np.full((len(lengths), int(lengths.max(initial=2))), self.manifest.pad, dtype=np.int64)
        column = np.arange(tokens.shape[1])
        tokens[:, 0] = self.manifest.start
        tokens[(column > 0) & (column <= inner[:, None])] = self.arrays["tokens"][where]
        tokens[np.arange(len(lengths)), lengths - 1] = self.manifest.end
        return TokenBatch(torch.from_numpy(tokens), torch.from_numpy(lengths))

    def lengths(self, ids: np.ndarray) -> np.ndarray:
        return self._sizes(ids) + 2

    def count(self, ids: np.ndarray) -> dict[str, int]:
        """Molecules, and tokens as targets: the end token counts, the start token does not."""
        return {"molecules": len(ids), "tokens": int(np.sum(self._sizes(ids) + 1))}

    def units(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Tokens that enter the model: the start token does, the end token does not."""
        return {"tokens": self._sizes(ids) + 1}

    def text(self, ids: np.ndarray) -> list[str]:
        """SMILES of the examples; the unknown token reads as an empty string."""
        batch = self.batch(ids)
        return [smiles or "" for smiles in self.decode(batch.tokens.numpy())]

    def decode(self, tokens: np.ndarray) -> list[str | None]:
        """SMILES of rows of token ids, None where a row is no molecule; see `tokens.decode`."""
        return decode(self.manifest, tokens)

    def _refuse_long(self, context: int) -> None:
        """The end token is never fed in: a string of `context` + 1 tokens fits."""
        if self.manifest.longest - 1 > context:
            long = int(np.sum(np.diff(self.offsets) + 1 > context))
            raise ValueError(
                f"context={context} is too short for {long:,} of {len(self.offsets) - 1:,} molecules of "
                f"{self.manifest.source!r}; use at least {self.manifest.longest - 1}, or leave the long ones out "
                f"(Reading.longest={context + 1})."
            )


class AtomicExamples(_Stored):
    """Labelled structures; see `Examples`."""

    def __init__(self, folder: Path, manifest: AtomicManifest, cutoff: float) -> None:
        super().__init__(folder, manifest)
        self.manifest = manifest
        self.cutoff = cutoff
        self._pairs = np.full(len(self.offsets) - 1, -1, dtype=np.int32)  # per example, -1 where not yet counted
        self._reference = np.zeros(256)
        self._reference[list(manifest.reference)] = list(manifest.reference.values())

    def batch(self, ids: np.ndarray) -> AtomicBatch:
        import torch

        where, atoms = ragged_index(self.offsets, ids)
        species, positions = self.arrays["species"][where], self.arrays["positions"][where]
        owner = np.repeat(np.arange(len(atoms)), atoms)
        shift = np.bincount(owner, weights=self._reference[species], minlength=len(atoms))
        cells = self._of(ids, "cell")
        near = neighbours(positions, atoms, self.cutoff, cells)
        return AtomicBatch(
            species=torch.from_numpy(species.astype(np.int64)),
            positions=torch.from_numpy(positions),
            owner=torch.from_numpy(owner),
            pairs=torch.from_numpy(near.pairs),
            structures=len(atoms),
            energy=torch.from_numpy((self.arrays["energy"][ids] - shift).astype(np.float32)),
            forces=torch.from_numpy(self.arrays["forces"][where]),
            shifts=_tensor(near.shifts),
            cell=_tensor(cells) if near.shifts is not None else None,
            charge=_tensor(self._of(ids, "charge")),
            spin=_tensor(self._of(ids, "spin")),
        )

    def _of(self, ids: np.ndarray, name: str) -> np.ndarray | None:
        """An array that only some sources have."""
        return self.arrays[name][ids] if name in self.arrays else None

    def lengths(self, ids: np.ndarray) -> np.ndarray:
        return self._sizes(ids)

    def count(self, ids: np.ndarray) -> dict[str, int]:
        """Structures, atoms, directed edges within the cutoff (two for each pair), and groups."""
        units = self.units(ids)
        return {
            "structures": len(ids),
            "atoms": int(units["atoms"].sum()),
            "edges": 2 * int(units["pairs"].sum()),
            "groups": len(np.unique(self.groups(ids))),
        }

    def units(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Atoms, and pairs within the cutoff."""
        ids = np.asarray(ids)
        unknown = np.unique(ids[self._pairs[ids] < 0])
        for start in range(0, len(unknown), _AT_A_TIME):
            some = unknown[start : start + _AT_A_TIME]
            where, atoms = ragged_index(self.offsets, some)
            near = neighbours(self.arrays["positions"][where], atoms, self.cutoff, self._of(some, "cell"))
            self._pairs[some] = near.counts
        return {"atoms": self._sizes(ids), "pairs": self._pairs[ids].astype(np.int64)}


def _tensor(values: np.ndarray | None) -> Any:
    """float32, or None."""
    import torch

    return None if values is None else torch.from_numpy(np.asarray(values, dtype=np.float32))


def _prefix(order: np.ndarray, count: int | None, asked: str, what: str) -> np.ndarray:
    if count is not None and not 0 < count <= len(order):
        raise ValueError(f"{asked} is not possible: there are {len(order):,} {what}; ask for 1 to {len(order):,}.")
    return order[:count]


def open_examples(folder: Path, manifest: Manifest, view: Mapping[str, Any]) -> TextExamples | AtomicExamples:
    """The examples of a built folder, seen the way a model asks for them.

    Raises:
        ValueError: the view lacks the one entry that this family needs.
    """
    text = isinstance(manifest, TextManifest)
    name, unit = ("context", "tokens") if text else ("cutoff", "angstrom")
    value = view.get(name)
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(
            f"view={dict(view)} has no positive {name!r} ({unit}), which data of family {manifest.family!r} need; "
            f"choose a model of that family."
        )
    if text:
        return TextExamples(folder, manifest, int(value))
    assert isinstance(manifest, AtomicManifest)
    return AtomicExamples(folder, manifest, float(value))

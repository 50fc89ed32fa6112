"""Labelled structures of a file -> positions, species, energies and forces on disk, with reference energies.

Reference energies and the scale of forces come from the whole training split, never from a subset, so that
losses compare across sizes of data. Structures of one molecule share a group and so a split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.batch import AtomicManifest, Manifest
from chemscale.data.frames import Frame, read_facts, read_frames
from chemscale.data.sources import Source
from chemscale.data.store import BUILDER, Rejected, counted, offsets_of, publish, refuse_empty_splits
from chemscale.data.subsets import SPLITS, digest, split_of_groups

_NOT_GROUPED = "no group, smiles or mol_id: each distinct structure is a group of its own"
_MORE = "structures of more molecules"
_GROUPED = "by molecule, as named in the file"


def build_structures(source: Source, folder: Path, processes: int | None, progress: bool | None) -> Manifest:
    """Build a source of structures into `folder`, whole or not at all.

    Raises:
        ValueError: the source holds no structure that can be used, or leaves one of the three splits empty.
    """
    path = source.files[0][1]
    records = list(read_frames(path, processes, progress))
    rejected = [r for r in records if isinstance(r, Rejected)]
    isolated = [r for r in records if isinstance(r, Frame) and r.isolated]
    frames = [(i, r) for i, r in enumerate(records) if isinstance(r, Frame) and not r.isolated]
    if not frames:
        why = f"record {rejected[0].line}: {rejected[0].reason}" if rejected else "the file is empty"
        raise ValueError(f"Data.source={source.name!r} holds no labelled structure that can be read; {why}.")
    groups = np.array([digest(f"{f.digest}" if f.group is None else f.group) for _, f in frames], dtype=np.uint64)
    split = split_of_groups(groups)
    refuse_empty_splits(source.name, "structures", split, groups, _MORE)
    known = np.unique(np.concatenate([f.species for (_, f), s in zip(frames, split, strict=True) if s == 0]))
    strange = np.array(
        [s != 0 and not np.all(np.isin(f.species, known)) for (_, f), s in zip(frames, split, strict=True)]
    )
    rejected += [_foreign(i, f) for (i, f), odd in zip(frames, strange, strict=True) if odd]
    refuse_empty_splits(source.name, "structures", split[~strange], groups[~strange], _MORE)
    kept = [f for (_, f), odd in zip(frames, strange, strict=True) if not odd]
    return _write(source, folder, kept, groups[~strange], split[~strange], isolated, rejected)


def reference_energies(composition: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Energy per atom of each species: float64 least squares of minimum norm.

    Where compositions do not determine all species (one molecule only), the minimum norm shares the
    energy out.

    Args:
        composition: (structures, species), counts of atoms.
        energy: (structures,), eV.

    Returns:
        (species,), eV.
    """
    solution, *_ = np.linalg.lstsq(composition.astype(np.float64), energy.astype(np.float64), rcond=None)
    return solution


def _write(
    source: Source,
    folder: Path,
    frames: Sequence[Frame],
    group_key: np.ndarray,
    split: np.ndarray,
    isolated: Sequence[Frame],
    rejected: Iterable[Rejected],
) -> Manifest:
    group_digest, group = np.unique(group_key, return_inverse=True)
    lengths = np.array([len(f.species) for f in frames], dtype=np.int64)
    arrays = {
        "species": np.concatenate([f.species for f in frames]),
        "positions": np.concatenate([f.positions for f in frames]),
        "forces": np.concatenate([f.forces for f in frames]),
        "energy": np.array([f.energy for f in frames], dtype=np.float64),
        "offsets": offsets_of(lengths),
        "split": split,
        "group": group.astype(np.int64),
        "group_digest": group_digest,
        "member_digest": np.array([f.digest for f in frames], dtype=np.uint64),
    }
    if isolated:  # they move the labels, so they belong to the content
        arrays["isolated"] = np.array([[f.species[0], f.energy] for f in isolated], dtype=np.float64)
    rejected = list(rejected)
    facts, notes = read_facts(source.files[0][1]), {"origin": source.origin, "units": source.units}
    species, reference, rule = _reference(arrays, lengths, split == 0, isolated)
    train = split == 0
    named = Counter(f.group is not None for f in frames)
    notes |= {
        "groups": _GROUPED if named[True] else _NOT_GROUPED,
        "ungrouped": named[False],
        "reference": rule,
    }
    manifest = AtomicManifest(
        source=source.name,
        family="structures",
        content="",
        builder=BUILDER,
        counts={name: int(np.sum(split == i)) for i, name in enumerate(SPLITS)},
        totals={"atoms": int(lengths[train].sum()), "groups": len(np.unique(group[train]))},
        rejected=counted(rejected),
        licence=str(facts.get("licence", source.licence)),
        citation=str(facts.get("citation", source.citation)),
        notes=notes,
        species=tuple(int(z) for z in species),
        reference={int(z): float(e) for z, e in zip(species, reference, strict=True)},
        scale=_force_scale(arrays["forces"][np.repeat(train, lengths)]),
        largest=int(lengths.max()),
        label_noise=_label_noise(facts),
    )
    return publish(folder, manifest, arrays, rejected)


def _reference(
    arrays: dict[str, np.ndarray], lengths: np.ndarray, train: np.ndarray, isolated: Sequence[Frame]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Species of the training split, their reference energies, and where those come from."""
    species, place = np.unique(arrays["species"][np.repeat(train, lengths)], return_inverse=True)
    lone = {int(f.species[0]): f.energy for f in isolated}
    if all(int(z) in lone for z in species):
        return species, np.array([lone[int(z)] for z in species]), "isolated atoms of the file"
    owner = np.repeat(np.arange(int(train.sum())), lengths[train])
    composition = np.zeros((int(train.sum()), len(species)))
    np.add.at(composition, (owner, place), 1.0)
    energies = reference_energies(composition, arrays["energy"][train])
    return species, energies, "least squares on composition over the training split"


def _force_scale(forces: np.ndarray) -> float:
    """Root mean square of all components, eV/angstrom; 1 where all forces are zero."""
    return float(np.sqrt(np.mean(forces.astype(np.float64) ** 2))) or 1.0


def _foreign(index: int, frame: Frame) -> Rejected:
    numbers = " ".join(str(z) for z in sorted(set(frame.species.tolist())))
    return Rejected(
        index,
        "held-out structure with an element that no training structure has",
        f"atomic numbers {numbers}",
    )


def _label_noise(facts: dict[str, Any]) -> dict[str, float]:
    """The floors measured on a random sample of the file's structures; empty where it carries none."""
    noise = facts.get("label_noise") or {}
    sample = noise.get("sample", noise)
    return {name: float(value) for name, value in sample.items() if isinstance(value, int | float)}

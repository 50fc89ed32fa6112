"""Structures made up for tests: random blobs of atoms at the density of molecules, with all their pairs."""

from dataclasses import replace

import numpy as np
import torch

import chemscale.models  # noqa: F401  # registers the models
from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.potential import traits_of
from chemscale.spec import MODELS

CUTOFF = 3.5  # angstrom: some pairs of a 9-atom blob lie within, some beyond
SPECIES = (1, 6, 7, 8)
MANIFEST = AtomicManifest("test", "structures", "", 1, {}, {}, species=SPECIES, scale=0.7)
ARCHITECTURES = sorted(name for name, config in MODELS.items() if config.family == "structures")
CHANGES = {"direct": {"forces": "direct"}, "local": {"attention": "none"}}  # of a variant, by the words of its name
VARIANTS = [
    *ARCHITECTURES,
    *(f"{name} direct" for name in ARCHITECTURES if "forces" in MODELS[name].__dataclass_fields__),
    "spookynet local",
]

Molecule = tuple[np.ndarray, np.ndarray]  # species (atoms,), positions (atoms, 3) in angstrom


def config(variant, *, width=8, depth=2, cutoff=CUTOFF, **fields):
    """A small model of this variant with some fields changed."""
    architecture, *words = variant.split()
    for word in words:
        fields |= CHANGES[word]
    return replace(MODELS[architecture].sized(width=width, depth=depth, cutoff=cutoff), **fields)


def keeps(variant, trait):
    """Whether models of this variant have a trait by construction."""
    return trait in traits_of(config(variant))


def module(variant, dtype=torch.float64, *, seed=0, **fields):
    """A small potential whose biases, too, are not zero, and whose forces are of the size of the labels'."""
    torch.manual_seed(seed)
    potential = config(variant, **fields).build(MANIFEST).to(dtype)
    with torch.no_grad():
        for parameter in potential.parameters():
            started = parameter.any() or parameter.ndim < 2  # else a layer that starts as nothing
            size = 0.1 if started else parameter.shape[1] ** -0.5
            parameter.add_(size * torch.randn_like(parameter))
    return potential


def molecule(atoms, seed=0, *, closest=0.9) -> Molecule:
    """Random atoms, no two closer than `closest` angstrom, in a box of 12 cubic angstrom for each."""
    random = np.random.default_rng([seed, atoms])
    side = (12.0 * atoms) ** (1 / 3)
    positions = np.empty((0, 3))
    while len(positions) < atoms:
        trial = random.uniform(0, side, 3)
        if len(positions) == 0 or np.linalg.norm(positions - trial, axis=1).min() > closest:
            positions = np.vstack((positions, trial))
    return random.choice(SPECIES, atoms), positions


def joined(molecules, dtype=torch.float64, *, cutoff=CUTOFF, charge=None, spin=None) -> AtomicBatch:
    """One batch of these molecules, with random labels; `charge` and `spin` are lists, one for each."""
    starts = np.cumsum([0] + [len(species) for species, _ in molecules])
    pairs = []
    for (_, positions), start in zip(molecules, starts[:-1], strict=True):
        distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
        pairs.append(np.stack(np.nonzero(np.triu(distances < cutoff, 1))) + start)
    labels = torch.Generator().manual_seed(0)
    return AtomicBatch(
        species=torch.as_tensor(np.concatenate([species for species, _ in molecules])).long(),
        positions=torch.as_tensor(np.concatenate([positions for _, positions in molecules])).to(dtype),
        owner=torch.as_tensor(np.repeat(np.arange(len(molecules)), np.diff(starts))),
        pairs=torch.as_tensor(np.concatenate(pairs, axis=1)),
        structures=len(molecules),
        energy=torch.randn(len(molecules), generator=labels, dtype=dtype),
        forces=torch.randn(starts[-1], 3, generator=labels, dtype=dtype),
        charge=None if charge is None else torch.as_tensor(charge, dtype=dtype),
        spin=None if spin is None else torch.as_tensor(spin, dtype=dtype),
    )


def loss(potential, batch):
    """A squared error of energies and forces."""
    predicted = potential(batch)
    return (predicted.energy - batch.energy).square().sum() + (predicted.forces - batch.forces).square().sum()


def crystal(cell, *, seed=0, atoms=4, dtype=torch.float64, cutoff=CUTOFF, strain=None, copies=1) -> AtomicBatch:
    """A periodic structure whose pairs come from matscipy, each once.

    Args:
        cell: (3, 3), lattice vectors in rows; atoms lie at random in it, also `copies` times along the first.
        strain: (3, 3), by which positions and cell are stretched: x + x @ strain.
    """
    from matscipy.neighbours import neighbour_list

    rng = np.random.default_rng(seed)
    species, positions = rng.choice(SPECIES, size=atoms), rng.uniform(size=(atoms, 3)) @ cell
    positions = np.concatenate([positions + k * cell[0] for k in range(copies)])
    cell = cell * np.array([copies, 1, 1])[:, None]
    deform = np.eye(3) if strain is None else np.eye(3) + strain
    positions, cell = positions @ deform, cell @ deform
    i, j, image = neighbour_list("ijS", cell=cell, pbc=[True] * 3, positions=positions, cutoff=cutoff)
    once = [(*s, b - a) > (0, 0, 0, 0) for a, b, s in zip(i, j, image, strict=True)]
    return AtomicBatch(
        species=torch.as_tensor(np.tile(species, copies)).long(),
        positions=torch.as_tensor(positions).to(dtype),
        owner=torch.zeros(len(positions), dtype=torch.long),
        pairs=torch.as_tensor(np.stack((i, j))[:, once]).long(),
        structures=1,
        shifts=torch.as_tensor((image @ cell)[once]).to(dtype),
        cell=torch.as_tensor(cell[None]).to(dtype),
    )

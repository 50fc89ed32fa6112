"""Structures made up for tests: random blobs of atoms at the density of molecules, with all their pairs."""

import numpy as np
import torch

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.spec import MODELS

CUTOFF = 3.5  # angstrom: some pairs of a 9-atom blob lie within, some beyond
SPECIES = (1, 6, 7, 8)
MANIFEST = AtomicManifest("test", "structures", "", 1, {}, {}, species=SPECIES, scale=0.7)
ARCHITECTURES = sorted(name for name, config in MODELS.items() if config.family == "structures")

Molecule = tuple[np.ndarray, np.ndarray]  # species (atoms,), positions (atoms, 3) in angstrom


def module(architecture, dtype=torch.float64, *, width=8, depth=2, cutoff=CUTOFF, seed=0):
    """A small potential whose biases, too, are not zero, and whose forces are of the size of the labels'."""
    torch.manual_seed(seed)
    potential = MODELS[architecture].sized(width=width, depth=depth, cutoff=cutoff).build(MANIFEST).to(dtype)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
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


def joined(molecules, dtype=torch.float64, *, cutoff=CUTOFF) -> AtomicBatch:
    """One batch of these molecules, with random labels."""
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
    )


def loss(potential, batch):
    """A squared error of energies and forces."""
    predicted = potential(batch)
    return (predicted.energy - batch.energy).square().sum() + (predicted.forces - batch.forces).square().sum()

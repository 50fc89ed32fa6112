"""What the tests beside the packages `nequip` and `nequip-allegro` share."""

import torch

from tests.models.batches import MANIFEST

SYMBOLS = ("H", "C", "N", "O")  # of MANIFEST.species


def exactly(config, manifest):
    """A module whose constants, those of the radial basis too, are known to float64."""
    torch.set_default_dtype(torch.float64)
    try:
        return config.build(manifest).double()
    finally:
        torch.set_default_dtype(torch.float32)


def graph(batch):
    """The packages' dictionary of a batch: every pair as two edges."""
    return {
        "pos": batch.positions.clone(),
        "atom_types": torch.tensor([MANIFEST.species.index(int(z)) for z in batch.species]),
        "edge_index": torch.cat((batch.pairs, batch.pairs.flip(0)), 1),
        "batch": batch.owner,
        "num_atoms": batch.owner.bincount(),
    }

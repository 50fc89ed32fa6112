"""One paper per file."""

from chemscale.models.chemgpt import ChemGPT
from chemscale.models.painn import PaiNN
from chemscale.models.schnet import SchNet

__all__ = ["ChemGPT", "PaiNN", "SchNet"]

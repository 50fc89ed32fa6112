"""Models, one paper per file; importing this package registers all of them."""

from chemscale.models.chemgpt import ChemGPT
from chemscale.models.painn import PaiNN
from chemscale.models.potential import AtomicPrediction, Potential
from chemscale.models.schnet import SchNet
from chemscale.models.spookynet import SpookyNet

__all__ = ["AtomicPrediction", "ChemGPT", "PaiNN", "Potential", "SchNet", "SpookyNet"]

"""Models, one paper per file; importing this package registers all of them."""

from chemscale.models.allegro import Allegro
from chemscale.models.cartesian import Cartesian
from chemscale.models.chemgpt import ChemGPT
from chemscale.models.dimenet import DimeNet
from chemscale.models.nequip import NequIP
from chemscale.models.painn import PaiNN
from chemscale.models.potential import AtomicPrediction, Potential
from chemscale.models.schnet import SchNet
from chemscale.models.spookynet import SpookyNet

__all__ = [
    "Allegro",
    "AtomicPrediction",
    "Cartesian",
    "ChemGPT",
    "DimeNet",
    "NequIP",
    "PaiNN",
    "Potential",
    "SchNet",
    "SpookyNet",
]

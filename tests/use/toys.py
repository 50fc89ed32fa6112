"""Small stand-ins for trained models and their data."""

from types import SimpleNamespace

import torch
from torch import nn

from chemscale.batch import TextManifest
from chemscale.models.causal import Cache
from chemscale.models.chemgpt import ChemGPT

SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
SELFIES = ("[C]", "[=C]", "[N]", "[O]", "[=O]", "[F]", "[Ring1]", "[Branch1]", "[=Branch1]", "[Cl]", "[#N]", "[S]")


def manifest(words=SELFIES, representation="selfies"):
    """Four special tokens before these words."""
    return TextManifest("toy", "text", "0", 1, {}, {}, vocabulary=(*SPECIAL, *words), representation=representation)


def transformer(words=SELFIES, context=40):
    """An untrained ChemGPT whose every token is about equally likely."""
    torch.manual_seed(0)
    return ChemGPT.sized(width=16, context=context).build(manifest(words)).eval()


class Dice(nn.Module):
    """A model whose next token never depends on the past."""

    def __init__(self, logits, context=1):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.config = SimpleNamespace(context=context)

    def start_cache(self, batch, length):
        return Cache(torch.zeros(1, batch, 1, length, 1), torch.zeros(1, batch, 1, length, 1))

    def step(self, tokens, cache):
        return self.logits.expand(len(tokens), -1), cache

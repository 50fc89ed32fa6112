"""A trained text model one token at a time, for many lines at once: what sampling asks of it, and who does it fastest.

Shapes: lines (strings that the past is of), vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from chemscale.batch import TokenBatch
from chemscale.models.causal import CausalTransformer
from chemscale.use.fused import FusedDecoder
from chemscale.use.kernels import Kernels, Plain
from chemscale.use.native import native

CHECKED_TOKENS = 6  # of each row on which the fused form is held against the module
TOLERANCE = 1e-3  # of the largest logit; sums in another order differ by 1e-5 of it in float32


class Past(Protocol):
    """What a decoder remembers of some lines."""

    def take(self, lines: Tensor) -> Any:
        """A copy with these lines (int64, any order, repeats allowed)."""
        ...

    def spread(self, lines: Tensor) -> Any:
        """All lines, and behind them copies of these."""
        ...

    def keep(self, lines: Tensor) -> tuple[Any, Tensor]:
        """These lines alone (int64, ascending, different), and which old line stands at each place afterwards.

        May write over the memory of the lines that go.
        """
        ...


class Decoder(Protocol):
    """What sampling asks of a model."""

    def start(self, length: int) -> Any:
        """The past of one line that has no token yet and will have at most `length`."""
        ...

    def step(self, tokens: Tensor, past: Any) -> tuple[Tensor, Any]:
        """Feed one token per line, (lines,): logits of the next, (lines, vocabulary), and the past one token on."""
        ...


def decoder(module: Any) -> Decoder:
    """The fastest way to step this module: fused where it is a ChemGPT on a processor, else by its own `step`.

    The fused form is used only where it gives the module's own logits on a few tokens, so a model that departs from
    GPT-Neo's function is slower, never wrong.

    Raises:
        ValueError: the module cannot be stepped.
    """
    if not hasattr(module, "start_cache"):
        raise ValueError(f"{type(module).__name__} cannot write strings; it needs start_cache and step, as ChemGPT.")
    if type(module) is CausalTransformer and next(module.parameters()).device.type == "cpu":
        with suppress(KeyError):  # weights of other names
            for kernels in _kernels(module):
                fused = FusedDecoder(module, kernels)
                if agrees(fused, module):
                    return fused
    return Stepper(module)


def _kernels(module: CausalTransformer) -> Iterator[Kernels]:
    """What may stand between the products, the fastest first."""
    config = module.config
    if next(module.parameters()).dtype == torch.float32:
        compiled = native(config.heads, config.width // config.heads)
        if compiled is not None:
            yield compiled(config.activation)
    yield Plain(config.activation)


def agrees(stepped: Decoder, module: CausalTransformer) -> bool:
    """Whether a decoder gives the logits of the module's forward pass on one short row of different tokens."""
    vocabulary = module.wte.weight.shape[0]
    length = min(CHECKED_TOKENS, module.config.context)
    tokens = torch.arange(length + 1)[None] % vocabulary
    expected = module(TokenBatch(tokens, torch.tensor([length + 1])))[0]  # (length, vocabulary)
    past, found = stepped.start(length), []
    for token in tokens[0, :-1]:
        logits, past = stepped.step(token[None], past)
        found.append(logits[0])
    return bool((torch.stack(found) - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1))


class Stepper:
    """A module's own `start_cache` and `step`, on any device."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.device = next(module.parameters()).device

    def start(self, length: int) -> SteppedPast:
        """The past of one line that has no token yet and will have at most `length`."""
        return SteppedPast(self.module.start_cache(1, length))

    def step(self, tokens: Tensor, past: SteppedPast) -> tuple[Tensor, SteppedPast]:
        """Feed one token per line, (lines,): logits of the next, (lines, vocabulary), and the past one token on."""
        logits, cache = self.module.step(tokens.to(self.device), past.cache)
        return logits.cpu(), SteppedPast(cache)


@dataclass(frozen=True)
class SteppedPast:
    """A module's own cache."""

    cache: Any

    def take(self, lines: Tensor) -> SteppedPast:
        return SteppedPast(self.cache.rows(lines.to(self.cache.keys.device)))

    def spread(self, lines: Tensor) -> SteppedPast:
        return self.take(torch.cat([torch.arange(self.cache.keys.shape[1]), lines]))

    def keep(self, lines: Tensor) -> tuple[SteppedPast, Tensor]:
        return self.take(lines), lines

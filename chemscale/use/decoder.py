"""A trained ChemGPT one token at a time, for many lines at once: its matrices fused, its cache laid out for processors.

Attention to one new token is many tiny products, and calling a matrix routine for each costs more than its arithmetic.
Here lines and heads are the innermost axes of the cache, so that scores and mixtures are elementwise work along them.
At 512 lines, 4 heads of 16 and 20 tokens that takes 0.56 ms on an AVX2 processor; batched products on a cache that is
contiguous for each head take 3.0 ms, SDPA 1.2, blocks of few tokens that stay in the second cache 0.65 to 1.0.

Shapes: lines (strings that the cache holds the past of), layers, room (tokens a line may have for now), head (width of
one head), heads, width, vocabulary.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from chemscale.batch import TokenBatch
from chemscale.models.causal import NORM_EPS, CausalTransformer

FIRST_ROOM = 64  # tokens that a cache holds at first; it doubles when full, and most drug-like molecules need fewer
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
            fused = FusedDecoder(module)
            if agrees(fused, module):
                return fused
    return Stepper(module)


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


@dataclass(frozen=True)
class _Block:
    """One layer: each linear map as (matrix of inputs x outputs, bias), each layer norm's affine part folded into it.

    Outputs of `qkv` and inputs of `out` are ordered (head, heads), which is how the cache is laid out.
    """

    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    fc: tuple[Tensor, Tensor]
    proj: tuple[Tensor, Tensor]
    window: int | None


@dataclass(frozen=True)
class FusedPast:
    """Keys and values of the tokens fed in so far.

    Attributes:
        memory: (layers, 2, room, head, places, heads), of which the first `at` tokens and `lines` places are in use.
        at: tokens fed in.
        length: the most tokens that a line will have.
    """

    memory: Tensor
    lines: int
    at: int
    length: int

    def take(self, lines: Tensor) -> FusedPast:
        return self._copied(lines, len(lines))

    def spread(self, lines: Tensor) -> FusedPast:
        """Copies stand in free places; where those are too few, everything moves to twice as many."""
        number = self.lines + len(lines)
        if number > self.memory.shape[4]:
            return self._copied(torch.cat([torch.arange(self.lines), lines]), 2 * number)
        used = _wide(self.memory)[:, :, : self.at]
        used[:, :, :, :, self.lines : number] = used[:, :, :, :, lines]
        return FusedPast(self.memory, number, self.at, self.length)

    def _copied(self, lines: Tensor, places: int) -> FusedPast:
        memory = self.memory.new_empty((*self.memory.shape[:4], places, self.memory.shape[5]))
        _wide(memory)[:, :, : self.at, :, : len(lines)] = _wide(self.memory)[:, :, : self.at, :, lines]
        return FusedPast(memory, len(lines), self.at, self.length)

    def keep(self, lines: Tensor) -> tuple[FusedPast, Tensor]:
        """Lines that stay beyond the number that stay move into the places of lines that go; no other is copied."""
        number = len(lines)
        moving, order = lines[lines >= number], torch.arange(number)
        vacant = torch.ones(number, dtype=torch.bool).index_fill_(0, lines[lines < number], False).nonzero()[:, 0]
        order[vacant] = moving
        used = _wide(self.memory)[:, :, : self.at]
        used[:, :, :, :, vacant] = used[:, :, :, :, moving]
        return FusedPast(self.memory, number, self.at, self.length), order

    def with_room(self) -> FusedPast:
        """The same past with room for one more token."""
        room = self.memory.shape[2]
        if self.at < room:
            return self
        shape = list(self.memory.shape)
        shape[2] = min(2 * room, self.length)
        memory = self.memory.new_empty(shape)
        memory[:, :, :room] = self.memory
        return FusedPast(memory, self.lines, self.at, self.length)


class FusedDecoder:
    """GPT-Neo's function (as `CausalTransformer`) for one new token of many lines, on a processor."""

    def __init__(self, module: CausalTransformer) -> None:
        config = module.config
        self.heads, self.head = config.heads, config.width // config.heads
        scale = self.head**-0.5 if config.logit_scale is None else config.logit_scale
        self.branch = config.scaling.branch
        weights = {name: value.detach() for name, value in module.state_dict().items()}
        self.tokens, self.positions = weights["wte.weight"], weights["wpe.weight"]
        windows = [config.window if layer % 2 else None for layer in range(config.depth)]
        self.blocks = [self._block(weights, f"h.{i}.", scale, window) for i, window in enumerate(windows)]
        output = weights.get("lm_head.weight", self.tokens) * config.scaling.logits
        self.output = _folded(output, None, weights["ln_f.weight"], weights["ln_f.bias"])
        self.activation = _gelu_tanh if config.activation == "gelu_new" else functional.gelu

    def start(self, length: int) -> FusedPast:
        """The past of one line that has no token yet and will have at most `length`."""
        if length > len(self.positions):
            raise ValueError(
                f"ChemGPT.context={len(self.positions)} is too short for {length} tokens; ask for shorter strings."
            )
        shape = (len(self.blocks), 2, min(FIRST_ROOM, length), self.head, 1, self.heads)
        return FusedPast(self.tokens.new_empty(shape), 1, 0, length)

    def step(self, tokens: Tensor, past: FusedPast) -> tuple[Tensor, FusedPast]:
        """Feed one token per line, (lines,): logits of the next, (lines, vocabulary), and the past one token on."""
        past = past.with_room()
        x = self.tokens[tokens].add_(self.positions[past.at])  # (lines, width)
        for block, memory in zip(self.blocks, past.memory, strict=True):
            mixed = self._attend(_mapped(_normal(x), block.qkv), memory[:, :, :, : past.lines], past.at, block.window)
            x = torch.addmm(x.add_(block.out[1]), mixed, block.out[0])
            hidden = self.activation(_mapped(_normal(x), block.fc))
            x = torch.addmm(x.add_(block.proj[1]), hidden, block.proj[0])
        return _mapped(_normal(x), self.output), FusedPast(past.memory, past.lines, past.at + 1, past.length)

    def _attend(self, projected: Tensor, memory: Tensor, at: int, window: int | None) -> Tensor:
        """Mixture of values for one new token, (lines, width); memory (2, room, head, lines, heads) takes it in."""
        lines = len(projected)
        parts = _wide(projected.view(lines, 3, self.head, self.heads)).permute(1, 2, 0, 3)  # (3, head, lines, heads)
        _wide(memory)[:, at] = parts[1:]
        query = parts[0].contiguous().view(projected.dtype)  # (head, lines, heads)
        seen = slice(0 if window is None else max(0, at + 1 - window), at + 1)
        keys, values = memory[0, seen], memory[1, seen]  # (seen, head, lines, heads)
        scores = (keys * query).sum(1)  # (seen, lines, heads)
        weights = scores.sub_(scores.amax(0)).exp_()
        mixed = (values * weights[:, None]).sum(0).div_(weights.sum(0))  # (head, lines, heads)
        return _wide(mixed).permute(1, 0, 2).contiguous().view(mixed.dtype).view(lines, -1)

    def _block(self, weights: dict[str, Tensor], prefix: str, scale: float, window: int | None) -> _Block:
        of = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        q, k, v = (self._by_head(of[f"attn.{name}_proj.weight"]) for name in "qkv")
        return _Block(
            qkv=_folded(torch.cat([q * scale, k, v]), None, of["ln_1.weight"], of["ln_1.bias"]),
            out=self._scaled(self._by_head(of["attn.out_proj.weight"].T), of["attn.out_proj.bias"]),
            fc=_folded(of["mlp.c_fc.weight"], of["mlp.c_fc.bias"], of["ln_2.weight"], of["ln_2.bias"]),
            proj=self._scaled(of["mlp.c_proj.weight"].T, of["mlp.c_proj.bias"]),
            window=window,
        )

    def _scaled(self, matrix: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A map into the residual stream, times the branch's factor."""
        return (matrix * self.branch).contiguous(), bias * self.branch

    def _by_head(self, matrix: Tensor) -> Tensor:
        """Rows of (width, …) in the order (head, heads) instead of (heads, head)."""
        return matrix.reshape(self.heads, self.head, -1).transpose(0, 1).reshape(matrix.shape)


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


def _wide(numbers: Tensor) -> Tensor:
    """The same memory with a few numbers of the last axis taken as one, so that moving them about takes fewer steps."""
    size = numbers.shape[-1] * numbers.element_size()
    kinds = (torch.complex128, torch.complex64)  # 16 and 8 bytes
    kind = next((kind for kind in kinds if size % kind.itemsize == 0), None)
    return numbers if kind is None or kind.itemsize < numbers.element_size() else numbers.view(kind)


def _folded(matrix: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """matrix (gain x + shift) + bias as (inputs x outputs, bias) of x."""
    moved = matrix @ shift
    return (matrix * gain).T.contiguous(), moved if bias is None else moved + bias


def _mapped(x: Tensor, linear: tuple[Tensor, Tensor]) -> Tensor:
    return torch.addmm(linear[1], x, linear[0])


def _normal(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def _gelu_tanh(x: Tensor) -> Tensor:
    """gelu by tanh (Hendrycks and Gimpel 2016), as x sigmoid(2 u): torch's own takes twice as long on a processor."""
    doubled = 1.5957691216057308  # 2 sqrt(2 / pi)
    u = (x * x).mul_(0.044715 * doubled).add_(doubled).mul_(x)
    return u.sigmoid_().mul_(x)

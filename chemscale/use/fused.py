"""A trained ChemGPT one token at a time, for many lines at once, on a processor: its matrices fused, its norms folded.

Shapes: lines (strings that the cache holds the past of), layers, places (lines that there is room for), room (tokens a
line may have for now), head (width of one head), heads, width, vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from chemscale.models.causal import CausalTransformer
from chemscale.use.kernels import Kernels

FIRST_ROOM = 64  # tokens that a cache holds at first; it doubles when full, and most drug-like molecules need fewer


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
        kernels: what reads and writes it.
        at: tokens fed in.
        length: the most tokens that a line will have.
    """

    memory: Tensor
    kernels: Kernels
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
        self.kernels.copy(self.memory, lines, self.memory, torch.arange(self.lines, number), self.at)
        return replace(self, lines=number)

    def keep(self, lines: Tensor) -> tuple[FusedPast, Tensor]:
        """Lines that stay beyond the number that stay move into the places of lines that go; no other is copied."""
        number = len(lines)
        moving, order = lines[lines >= number], torch.arange(number)
        vacant = torch.ones(number, dtype=torch.bool).index_fill_(0, lines[lines < number], False).nonzero()[:, 0]
        order[vacant] = moving
        self.kernels.copy(self.memory, moving, self.memory, vacant, self.at)
        return replace(self, lines=number), order

    def with_room(self) -> FusedPast:
        """The same past with room for one more token."""
        room = self.memory.shape[2]
        if self.at < room:
            return self
        memory = self._empty(min(2 * room, self.length), self.memory.shape[4])
        memory[:, :, :room] = self.memory
        return replace(self, memory=memory)

    def _copied(self, lines: Tensor, places: int) -> FusedPast:
        memory = self._empty(self.memory.shape[2], places)
        self.kernels.copy(self.memory, lines, memory, torch.arange(len(lines)), self.at)
        return replace(self, memory=memory, lines=len(lines))

    def _empty(self, room: int, places: int) -> Tensor:
        layers, two, _, head, _, heads = self.memory.shape
        return _empty(self.kernels, (layers, two, room, head, places, heads), self.memory.dtype)


class FusedDecoder:
    """GPT-Neo's function (as `CausalTransformer`) for one new token of many lines, on a processor."""

    def __init__(self, module: CausalTransformer, kernels: Kernels) -> None:
        config = module.config
        self.kernels = kernels
        self.heads, self.head = config.heads, config.width // config.heads
        scale = self.head**-0.5 if config.logit_scale is None else config.logit_scale
        self.branch = config.scaling.branch
        weights = {name: value.detach() for name, value in module.state_dict().items()}
        self.tokens, self.positions = weights["wte.weight"], weights["wpe.weight"]
        windows = [config.window if layer % 2 else None for layer in range(config.depth)]
        self.blocks = [self._block(weights, f"h.{i}.", scale, window) for i, window in enumerate(windows)]
        output = weights.get("lm_head.weight", self.tokens) * config.scaling.logits
        self.output = _folded(output, None, weights["ln_f.weight"], weights["ln_f.bias"])

    def start(self, length: int) -> FusedPast:
        """The past of one line that has no token yet and will have at most `length`."""
        if length > len(self.positions):
            raise ValueError(
                f"ChemGPT.context={len(self.positions)} is too short for {length} tokens; ask for shorter strings."
            )
        shape = (len(self.blocks), 2, min(FIRST_ROOM, length), self.head, 1, self.heads)
        return FusedPast(_empty(self.kernels, shape, self.tokens.dtype), self.kernels, 1, 0, length)

    def step(self, tokens: Tensor, past: FusedPast) -> tuple[Tensor, FusedPast]:
        """Feed one token per line, (lines,): logits of the next, (lines, vocabulary), and the past one token on."""
        past, run = past.with_room(), self.kernels
        at, after = past.at, past.at + 1
        x = self.tokens[tokens]  # (lines, width), short of what `lacks` holds
        lacks = self.positions[at]
        for block, memory in zip(self.blocks, past.memory[:, :, :, :, : past.lines], strict=True):
            first = 0 if block.window is None else max(0, after - block.window)
            projected = run.normal(x, lacks) @ block.qkv[0]
            x.addmm_(run.attend(projected, block.qkv[1], memory, at, first), block.out[0])
            hidden = run.normal(x, block.out[1]) @ block.fc[0]
            x.addmm_(run.activate(hidden, block.fc[1]), block.proj[0])
            lacks = block.proj[1]
        logits = torch.addmm(self.output[1], run.normal(x, lacks), self.output[0])
        return logits, replace(past, at=after)

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


def _empty(kernels: Kernels, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_permuted(shape, kernels.layout, dtype=dtype)


def _folded(matrix: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """matrix (gain x + shift) + bias as (inputs x outputs, bias) of x."""
    moved = matrix @ shift
    return (matrix * gain).T.contiguous(), moved if bias is None else moved + bias

"""The module of ChemGPT: GPT-Neo's function on strings of any layout (Black et al. 2021).

Parameters carry GPT-Neo's names without its two wrappers: `transformer.h.0.attn.attention.q_proj.weight` is here
`h.0.attn.q_proj.weight`, with the same shape.

Shapes: batch (molecules), length (tokens fed in), vocabulary, width, layers, heads, head (width of one head).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from chemscale.batch import PackedTokens, TokenBatch
from chemscale.models import mixing
from chemscale.models.block import Block
from chemscale.models.grid import Plan
from chemscale.models.products import PRODUCTS, Linear, linear

if TYPE_CHECKING:
    from chemscale.models.chemgpt import ChemGPT

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
}
NORM_EPS = 1e-5  # GPT-2 and GPT-Neo
LONGEST_GRID = 128  # tokens up to which a block keeps all attention shares for its backward pass; above, SDPA


@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens fed in so far; `CausalTransformer.step` writes into the tensors.

    Attributes:
        keys, values: (layers, batch, heads, length, head), filled up to `position`.
        position: tokens fed in.
    """

    keys: Tensor
    values: Tensor
    position: int = 0

    def rows(self, kept: Tensor) -> Cache:
        """A copy with these rows (int64) of the batch alone."""
        return Cache(self.keys.index_select(1, kept), self.values.index_select(1, kept), self.position)


class CausalTransformer(nn.Module):
    """GPT-Neo's function: learned positions, layer norm before each part, causal attention, and one output matrix."""

    def __init__(self, config: ChemGPT, vocabulary: int) -> None:
        super().__init__()
        self.config, self.scaling = config, config.scaling
        self.wte = nn.Embedding(vocabulary, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        self.h = nn.ModuleList(_Block(config, layer) for layer in range(config.depth))
        self.ln_f = nn.LayerNorm(config.width, NORM_EPS)
        self.lm_head = None if config.tied else Linear(config.width, vocabulary, bias=False)
        self._written_out = True
        self._initialise(config.init)

    def forward(self, batch: TokenBatch | PackedTokens) -> Tensor:
        """Logits of each next token: (batch, length - 1, vocabulary) for inputs `tokens[:, :-1]`, or (tokens,
        vocabulary) for packed ones.

        Padding stands on the right, where the causal mask already hides it; strings laid end to end see only
        themselves.

        Raises:
            ValueError: strings are longer than the context.
        """
        if isinstance(batch, PackedTokens):
            self._check_length(batch.longest)
            x = self.wte(batch.inputs) + self.wpe(batch.positions)  # (tokens, width)
            return self._logits(self._through(x, batch.fed, batch.positions, batch.longest))
        tokens = batch.tokens[:, :-1]  # (batch, length)
        rows, length = tokens.shape
        self._check_length(length)
        x = (self.wte(tokens) + self.wpe.weight[:length]).flatten(0, 1)  # (tokens, width)
        positions = torch.arange(length, device=x.device).repeat(rows)
        x = self._through(x, torch.full((rows,), length, device=x.device), positions, length)
        return self._logits(x).unflatten(0, (rows, length))

    def _through(self, x: Tensor, fed: Tensor, positions: Tensor, longest: int) -> Tensor:
        """All blocks, on strings end to end: (tokens, width)."""
        strings = mixing.Strings(fed, positions, longest, PRODUCTS.get())
        plan = self._plan(x, strings) if self._written_out else None
        if plan is None:
            strings.prepare(x)
        for block in self.h:
            x = block(x, strings) if plan is None else block(x, plan)
        return x

    def _plan(self, x: Tensor, strings: mixing.Strings) -> Plan | None:
        """How the blocks run as one step each, where that is faster: short strings on a processor."""
        config = self.config
        if x.device.type not in ("cpu", "meta") or strings.longest > LONGEST_GRID or torch.is_autocast_enabled("cpu"):
            return None
        scale = config.logit_scale
        return Plan.of(
            strings.fed,
            strings.positions,
            strings.longest,
            heads=config.heads,
            windows={None, config.window},
            like=x,
            scale=1 / math.sqrt(config.width // config.heads) if scale is None else scale,
            branch=config.scaling.branch,
            activation=config.activation,
            eps=NORM_EPS,
        )

    def start_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for `step`, for so many rows of at most `length` tokens.

        Raises:
            ValueError: `length` exceeds the context.
        """
        self._check_length(length)
        config = self.config
        shape = (config.depth, batch, config.heads, length, config.width // config.heads)
        return Cache(self.wte.weight.new_zeros(shape), self.wte.weight.new_zeros(shape))

    def step(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Feed one token per row, (batch,): logits of the next, (batch, vocabulary), and the cache one position on.

        Raises:
            ValueError: the cache is full.
        """
        at = cache.position
        if at >= cache.keys.shape[3]:
            raise ValueError(f"the cache holds {at} tokens and is full; start_cache with a larger length.")
        x = (self.wte(tokens) + self.wpe.weight[at])[:, None]  # (batch, 1, width)
        for block, keys, values in zip(self.h, cache.keys, cache.values, strict=True):
            x = block.step(x, keys, values, at)  # type: ignore[operator]
        return self._logits(x[:, 0]), replace(cache, position=at + 1)

    def blocks(self) -> list[nn.Module]:
        """The residual blocks, in order: what is gathered at a time where the model is sharded over workers."""
        return list(self.h)

    @contextmanager
    def in_layers(self) -> Iterator[None]:
        """Within, blocks run layer by layer on every device: what a compiler can fuse, unlike what is written out."""
        self._written_out = False
        try:
            yield
        finally:
            self._written_out = True

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters by what they do; "embedding" is the token and position tables and an untied output matrix."""
        groups: dict[str, list[nn.Parameter]] = {"embedding": [], "attention": [], "mlp": [], "norm": []}
        for name, parameter in self.named_parameters():
            part = name.split(".")[2 if name.startswith("h.") else 0]
            group = {"attn": "attention", "mlp": "mlp", "ln_1": "norm", "ln_2": "norm", "ln_f": "norm"}
            groups[group.get(part, "embedding")].append(parameter)
        return groups

    def _logits(self, x: Tensor) -> Tensor:
        x = self.ln_f(x)
        if self.scaling.logits != 1:
            x = x * self.scaling.logits
        return linear(x, (self.lm_head or self.wte).weight)  # (..., vocabulary)

    def _check_length(self, length: int) -> None:
        if length > self.config.context:
            raise ValueError(
                f"ChemGPT.context={self.config.context} is too short for {length} tokens; "
                f"use ChemGPT.sized(..., context={length}) or shorter strings."
            )

    def _initialise(self, std: float | None) -> None:
        """GPT-Neo's normal(0, std); or 1 / sqrt(inputs), into the residual stream 1 / sqrt(2 depth) of that.

        Fan-in: LeCun et al. 1998; the residual factor: Radford et al. 2019. 0.02 would be fan-in at width 2500. One
        epoch of 10,000 MOSES molecules, 4 layers, widths 8, 16, 64: nats per token 1.466, 1.224, 1.064 by fan-in,
        1.493, 1.314, 1.173 with 0.02 (2 to 3 seeds).
        """
        ratio, depth = self.scaling.width, self.config.depth / self.scaling.depth  # 1 and the depth; CompleteP: m, base
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                into_stream, within = name.endswith(("out_proj", "c_proj")), name.startswith("h.")
                fan_in = module.weight.shape[1] * (2 * depth if into_stream else 1) / (1 if within else ratio)
                set_std = None if std is None else std / math.sqrt(ratio if within else 1)
                nn.init.normal_(module.weight, std=1 / math.sqrt(fan_in) if set_std is None else set_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


class _Block(nn.Module):
    def __init__(self, config: ChemGPT, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, NORM_EPS)
        self.attn = _Attention(config, config.window if layer % 2 else None)
        self.ln_2 = nn.LayerNorm(config.width, NORM_EPS)
        self.mlp = _FeedForward(config)
        self.branch = config.scaling.branch

    def forward(self, x: Tensor, how: Plan | mixing.Strings) -> Tensor:  # (tokens, width)
        if isinstance(how, Plan):
            return self._at_once(x, how)
        return self._added(x, self.attn(self.ln_1(x), how), how.products)

    def step(self, x: Tensor, *past: Any) -> Tensor:  # (batch, 1, width)
        return self._added(x, self.attn.step(self.ln_1(x), *past))

    def _added(self, x: Tensor, mixed: Tensor, products: torch.dtype | None = None) -> Tensor:
        x = torch.add(x, mixed, alpha=self.branch)
        return torch.add(x, self.mlp(self.ln_2(x), products), alpha=self.branch)

    def _at_once(self, x: Tensor, plan: Plan) -> Tensor:
        attn, mlp = self.attn, self.mlp
        qkv = torch.cat((attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight))
        layers = (attn.out_proj, self.ln_2, mlp.c_fc, mlp.c_proj)
        rest = [p for layer in layers for p in (layer.weight, layer.bias)]
        return Block.apply(plan, attn.window, x, self.ln_1.weight, self.ln_1.bias, qkv, *rest)  # type: ignore[return-value]


class _Attention(nn.Module):
    def __init__(self, config: ChemGPT, window: int | None) -> None:
        super().__init__()
        self.heads, self.window, self.scale = config.heads, window, config.logit_scale
        self.q_proj, self.k_proj, self.v_proj = (Linear(config.width, config.width, bias=False) for _ in range(3))
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x: Tensor, strings: mixing.Strings) -> Tensor:  # (tokens, width)
        projected = [project(x, strings.products) for project in (self.q_proj, self.k_proj, self.v_proj)]
        query, key, value = [part.unflatten(-1, (self.heads, -1)) for part in projected]
        scale = (x.shape[-1] // self.heads) ** -0.5 if self.scale is None else self.scale
        mixed = mixing.attend(query, key, value, strings, scale=scale, window=self.window)
        return self.out_proj(mixed.flatten(1), strings.products)

    def step(self, x: Tensor, keys: Tensor, values: Tensor, at: int) -> Tensor:
        """One token of each row, (batch, 1, width), after `at` others; keys and values (batch, heads, length, head)."""
        query, keys[:, :, at : at + 1], values[:, :, at : at + 1] = self._project(x)
        seen = slice(0 if self.window is None else max(0, at + 1 - self.window), at + 1)
        mixed = functional.scaled_dot_product_attention(query, keys[:, :, seen], values[:, :, seen], scale=self.scale)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # (batch, 1, width)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = x.shape
        parts = (project(x) for project in (self.q_proj, self.k_proj, self.v_proj))
        query, key, value = (p.view(batch, length, self.heads, -1).transpose(1, 2) for p in parts)
        return query, key, value  # each (batch, heads, length, head)


class _FeedForward(nn.Module):
    def __init__(self, config: ChemGPT) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.c_fc = Linear(config.width, config.mlp_ratio * config.width)
        self.c_proj = Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x: Tensor, products: torch.dtype | None = None) -> Tensor:  # (..., width)
        return self.c_proj(self.activation(self.c_fc(x, products)), products)

"""ChemGPT: a causal transformer over molecular strings (Frey et al. 2023, Nature Machine Intelligence 5, 1297).

One dial, `ChemGPT.sized(width=...)`, with two shapes behind it: a balanced one of few layers, and "chemgpt", the
released model's GPT-Neo (Black et al. 2021) of 24 layers, whose size is its width alone.

Parameters carry GPT-Neo's names without its two wrappers: `transformer.h.0.attn.attention.q_proj.weight` is here
`h.0.attn.q_proj.weight`, with the same shape.

Shapes: batch (molecules), length (tokens fed in), vocabulary, width, layers, heads, head (width of one head).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from chemscale.batch import TextManifest, TokenBatch
from chemscale.models.parametrisation import PARAMETRISATIONS, Scaling
from chemscale.spec import added_since, register_model
from chemscale.values import one_of

SHAPES = ("balanced", "chemgpt")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
}
NORM_EPS = 1e-5  # GPT-2 and GPT-Neo

# The balanced shape, measured on MOSES SELFIES, one CPU thread, 10,000 molecules, one epoch, means of 2 seeds.
HEAD_WIDTH = 16  # loss at width 64 by heads 1, 2, 4, 8: 1.083, 1.073, 1.064, 1.073; attention's time: 1, 1, 1.3, 2.5
LEAST_DEPTH = 4  # widths 8 to 128 in 4 layers already span a loss of 1.6 to 1.05 within minutes on a CPU
WIDTH_PER_LAYER = 64  # depth of wide models: nanochat; loss is nearly flat around it (Kaplan et al. 2020, figure 5)
MLP_RATIO = 4  # GPT-2 and GPT-Neo


@register_model
@dataclass(frozen=True)
class ChemGPT:
    """Shape of one ChemGPT; the vocabulary comes from the data's manifest when it is built.

    Args:
        width: of the residual stream.
        depth: layers.
        heads: of each layer; divides `width`.
        mlp_ratio: hidden width of each feed-forward part over `width`.
        context: positions; the most tokens that can be fed in (the end token of a full string never is).
        window: odd layers see only so many tokens back, their own included; None: every layer sees all.
        attention_scale: factor on the attention logits; None is 1 / sqrt(width / heads), GPT-Neo's is 1.
        activation: "gelu", or "gelu_new", its approximation by tanh.
        init: standard deviation of all initial matrices, as in GPT-Neo (0.02); None goes by fan-in.
        tied: the token table is the output matrix too.
        parametrisation: "standard", or "completep", under which the best rate does not move with width and depth
            (`chemscale.models.parametrisation`); it sets the attention's scale itself.
        base_width, base_depth: the shape at which "completep" is the standard parametrisation; there a rate is tuned.

    Raises:
        ValueError: a size is not a positive integer, `heads` does not divide `width`, `activation` or
            `parametrisation` is unknown, or `attention_scale` is set under "completep".
    """

    architecture: ClassVar[str] = "chemgpt"
    family: ClassVar[str] = "text"
    objective: ClassVar[str] = "next_token"

    width: int = 64
    depth: int = 4
    heads: int = 4
    mlp_ratio: int = MLP_RATIO
    context: int = 128
    window: int | None = None
    attention_scale: float | None = None
    activation: str = "gelu"
    init: float | None = None
    tied: bool = True
    parametrisation: str = added_since(1, "standard")
    base_width: int = added_since(1, 64)
    base_depth: int = added_since(1, LEAST_DEPTH)

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "mlp_ratio", "context", "window", "base_width", "base_depth"):
            _check_size(f"ChemGPT.{name}", getattr(self, name), optional=name == "window")
        if self.activation not in ACTIVATIONS:
            known = " or ".join(ACTIVATIONS)
            raise ValueError(f"ChemGPT.activation={self.activation!r} is unknown; use {known}.")
        one_of("ChemGPT.parametrisation", self.parametrisation, PARAMETRISATIONS)
        if self.parametrisation == "completep" and self.attention_scale is not None:
            raise ValueError(
                f"ChemGPT.attention_scale={self.attention_scale} is not allowed with parametrisation='completep', "
                "which scales attention by the heads' width; leave it at None."
            )
        if self.width % self.heads:
            below = self.width // self.heads * self.heads
            near = " or ".join(str(w) for w in (below, below + self.heads) if w)
            raise ValueError(f"ChemGPT.width={self.width} is not a multiple of heads={self.heads}; use width {near}.")

    @classmethod
    def sized(
        cls,
        width: int = 64,
        *,
        shape: str = "balanced",
        context: int | None = None,
        parametrisation: str = "standard",
    ) -> ChemGPT:
        """The member of one family at this width.

        Args:
            width: of the residual stream; "chemgpt" takes multiples of its 16 heads.
            shape: "balanced" derives depth and heads from the width; "chemgpt" is the released model's.
            context: positions; None is 128 in the balanced shape (MOSES needs 52) and 2048 in "chemgpt".
            parametrisation: "completep" replaces what it rules (attention scale, initial size) in either shape.

        Raises:
            ValueError: the shape is unknown, or the width does not fit it.
        """
        _check_size("ChemGPT.width", width)
        if shape == "balanced":
            depth = max(LEAST_DEPTH, width // WIDTH_PER_LAYER)
            config = cls(width=width, depth=depth, heads=_heads(width))
        elif shape == "chemgpt":  # ncfrey/ChemGPT-*, config.json, and transformers' GPTNeoConfig for what it leaves out
            neo = {"window": 256, "attention_scale": 1.0, "activation": "gelu_new", "init": 0.02}
            config = cls(width=width, depth=24, heads=16, context=2048, **neo)
        else:
            raise ValueError(f"ChemGPT.sized(shape={shape!r}) is unknown; use {' or '.join(SHAPES)}.")
        if parametrisation != "standard":
            config = replace(config, parametrisation=parametrisation, attention_scale=None, init=None)
        return config if context is None else replace(config, context=context)

    @property
    def scaling(self) -> Scaling:
        """How far this shape is from the base of its parametrisation."""
        if self.parametrisation == "standard":
            return Scaling()
        return Scaling(self.width / self.base_width, self.depth / self.base_depth)

    @property
    def logit_scale(self) -> float | None:
        """Factor on the attention logits; None is 1 / sqrt(width of a head)."""
        if self.parametrisation == "standard":
            return self.attention_scale
        return math.sqrt(HEAD_WIDTH) * self.heads / self.width  # both agree at heads of HEAD_WIDTH

    @property
    def view(self) -> Mapping[str, Any]:
        """Positions that the model has: strings of up to `context` + 1 tokens, start and end included."""
        return {"context": self.context}

    def build(self, manifest: TextManifest) -> CausalTransformer:
        """The module for this vocabulary, drawn from torch's global random state.

        Raises:
            ValueError: the data are not strings.
        """
        if not getattr(manifest, "vocabulary", ()):
            what = f"{getattr(manifest, 'source', '?')!r} holds {getattr(manifest, 'family', '?')} without a vocabulary"
            raise ValueError(f"ChemGPT reads strings, but {what}; use text data.")
        return CausalTransformer(self, len(manifest.vocabulary))


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
        self.lm_head = None if config.tied else nn.Linear(config.width, vocabulary, bias=False)
        self._initialise(config.init)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits of each row's next token, (batch, length - 1, vocabulary), for inputs `tokens[:, :-1]`.

        Padding stands on the right, where the causal mask already hides it.

        Raises:
            ValueError: rows are longer than the context.
        """
        tokens = batch.tokens[:, :-1]  # (batch, length)
        length = tokens.shape[1]
        self._check_length(length)
        x = self.wte(tokens) + self.wpe.weight[:length]  # (batch, length, width)
        for block in self.h:
            x = block(x)
        return self._logits(x)

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
            x = block(x, keys, values, at)
        return self._logits(x[:, 0]), replace(cache, position=at + 1)

    def blocks(self) -> list[nn.Module]:
        """The residual blocks, in order: what is gathered at a time where the model is sharded over workers."""
        return list(self.h)

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
        return functional.linear(x, (self.lm_head or self.wte).weight)  # (..., vocabulary)

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

    def forward(self, x: Tensor, *past: Any) -> Tensor:  # (batch, length, width)
        mixed = self.attn.step(self.ln_1(x), *past) if past else self.attn(self.ln_1(x))
        x = torch.add(x, mixed, alpha=self.branch)
        return torch.add(x, self.mlp(self.ln_2(x)), alpha=self.branch)


class _Attention(nn.Module):
    def __init__(self, config: ChemGPT, window: int | None) -> None:
        super().__init__()
        self.heads, self.window, self.scale = config.heads, window, config.logit_scale
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(config.width, config.width, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, length, width)
        length, mask = x.shape[1], None
        if self.window is not None and length > self.window:
            mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril().triu(1 - self.window)
        return self._mix(*self._project(x), attn_mask=mask, is_causal=mask is None)

    def step(self, x: Tensor, keys: Tensor, values: Tensor, at: int) -> Tensor:
        """One token of each row, (batch, 1, width), after `at` others; keys and values (batch, heads, length, head)."""
        query, keys[:, :, at : at + 1], values[:, :, at : at + 1] = self._project(x)
        seen = slice(0 if self.window is None else max(0, at + 1 - self.window), at + 1)
        return self._mix(query, keys[:, :, seen], values[:, :, seen])

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = x.shape
        parts = (project(x) for project in (self.q_proj, self.k_proj, self.v_proj))
        query, key, value = (p.view(batch, length, self.heads, -1).transpose(1, 2) for p in parts)
        return query, key, value  # each (batch, heads, length, head)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, **mask: Any) -> Tensor:
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.scale, **mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # (batch, length, width)


class _FeedForward(nn.Module):
    def __init__(self, config: ChemGPT) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.c_fc = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.c_proj = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, length, width)
        return self.c_proj(self.activation(self.c_fc(x)))


def _heads(width: int) -> int:
    """The divisor of the width that makes heads closest to HEAD_WIDTH wide, on a logarithmic scale."""
    divisors = [heads for heads in range(1, width + 1) if width % heads == 0]
    return min(divisors, key=lambda heads: abs(math.log(width / heads / HEAD_WIDTH)))


def _check_size(name: str, value: Any, *, optional: bool = False) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not (good or (optional and value is None)):
        raise ValueError(f"{name}={value!r} is not allowed: it must be an integer above 0{' or None' * optional}.")

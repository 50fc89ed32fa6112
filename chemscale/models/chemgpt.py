"""ChemGPT: a causal transformer over molecular strings (Frey et al. 2023, Nature Machine Intelligence 5, 1297).

One dial, `ChemGPT.sized(width=...)`, with two shapes behind it: a balanced one of few layers, and "chemgpt", the
released model's GPT-Neo (Black et al. 2021) of 24 layers, whose size is its width alone.

The module that this configuration builds is in `chemscale.models.causal`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar

from chemscale.batch import TextManifest
from chemscale.models.causal import ACTIVATIONS, CausalTransformer
from chemscale.models.parametrisation import PARAMETRISATIONS, Scaling
from chemscale.spec import added_since, register_model
from chemscale.values import one_of

SHAPES = ("balanced", "chemgpt")

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
    precisions: ClassVar[tuple[str, ...]] = ("float32", "float64", "bfloat16_linears", "bfloat16")
    packs: ClassVar[bool] = True  # it takes strings end to end

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


def _heads(width: int) -> int:
    """The divisor of the width that makes heads closest to HEAD_WIDTH wide, on a logarithmic scale."""
    divisors = [heads for heads in range(1, width + 1) if width % heads == 0]
    return min(divisors, key=lambda heads: abs(math.log(width / heads / HEAD_WIDTH)))


def _check_size(name: str, value: Any, *, optional: bool = False) -> None:
    good = isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0
    if not (good or (optional and value is None)):
        raise ValueError(f"{name}={value!r} is not allowed: it must be an integer above 0{' or None' * optional}.")

"""ChemGPT as Hugging Face's GPT-Neo and back: configuration, and names and values of the weights; reads no file.

GPT-Neo (Black et al. 2021, `transformers` GPTNeoForCausalLM) does not scale its attention logits. A factor s on them
is a factor s on the queries, which are linear in q_proj: `(s W x) . k = s (W x . k)`. So every attention scale has an
exact place in GPT-Neo, to the last bit where s is a power of two, as it is for heads 4, 16 or 64 wide. So have
CompleteP's factors on what the residual branches add (in their last layers) and on the logits (in the last norm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from chemscale.models.causal import ACTIVATIONS, NORM_EPS, CausalTransformer
from chemscale.models.chemgpt import ChemGPT

WINDOW = 256  # GPTNeoConfig's default, written where no layer has a window
MASKS = ("attn.attention.bias", "attn.attention.masked_bias")  # buffers that older checkpoints hold; no parameters
EXPRESSED = (  # fields that have a place in GPT-Neo; any other one must have its default
    "width", "depth", "heads", "mlp_ratio", "context", "window", "attention_scale", "activation", "init", "tied",
    "parametrisation", "base_width", "base_depth",
)  # fmt: skip
FREE = ("init", "attention_scale", "context", "parametrisation", "base_width", "base_depth")  # of equal functions

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Factors:
    """What a model multiplies by, beside its weights: attention logits, what a residual branch adds, output logits."""

    attention: float = 1.0
    branch: float = 1.0
    logits: float = 1.0

    @classmethod
    def of(cls, model: ChemGPT) -> Factors:
        """Those of a model."""
        scale = 1 / math.sqrt(model.width // model.heads) if model.logit_scale is None else model.logit_scale
        return cls(scale, model.scaling.branch, model.scaling.logits)

    def over(self, other: Factors, name: str) -> float:
        """The factor on the weight of this name that keeps the function where `other` takes the place of these."""
        if name.endswith("q_proj.weight"):
            return self.attention / other.attention
        if ".out_proj." in name or ".c_proj." in name:
            return self.branch / other.branch
        return self.logits / other.logits if name.startswith("ln_f.") else 1.0


NEO = Factors()  # GPT-Neo has none


def rescaled(weights: Weights, before: Factors, after: Factors) -> dict[str, Tensor]:
    """Weights of the same function under ChemGPT's names, for a model with the factors `after` instead of `before`."""
    return {
        name: value if (factor := before.over(after, name)) == 1 else value * factor for name, value in weights.items()
    }


def released_config(model: ChemGPT, vocabulary: int) -> dict[str, Any]:
    """The fields of GPTNeoConfig that describe this model.

    Raises:
        ValueError: the model has a setting that GPT-Neo cannot express.
    """
    _refuse_inexpressible(model)
    pairs, odd = divmod(model.depth, 2)
    window = None if model.depth == 1 else model.window  # the first layer sees all
    types = [[["global"], model.depth]] if window is None else [[["global", "local"], pairs], [["global"], odd]]
    return {
        "model_type": "gpt_neo",
        "architectures": ["GPTNeoForCausalLM"],
        "vocab_size": vocabulary,
        "hidden_size": model.width,
        "num_layers": model.depth,
        "num_heads": model.heads,
        "intermediate_size": model.mlp_ratio * model.width,
        "max_position_embeddings": model.context,
        "attention_types": [kind for kind in types if kind[1]],
        "window_size": WINDOW if window is None else window,
        "activation_function": model.activation,
        "layer_norm_epsilon": NORM_EPS,
        "initializer_range": 0.02 if model.init is None else model.init,
        "tie_word_embeddings": model.tied,
        "attention_dropout": 0.0,
        "embed_dropout": 0.0,
        "resid_dropout": 0.0,
        "use_cache": True,
    }


def model_of(config: Mapping[str, Any]) -> ChemGPT:
    """The ChemGPT that a GPT-Neo configuration describes; what it leaves out has GPTNeoConfig's defaults.

    Raises:
        ValueError: it describes another architecture, or a GPT-Neo that ChemGPT cannot express.
    """
    if config.get("model_type", "gpt_neo") != "gpt_neo":
        raise ValueError(f"config.json says model_type={config['model_type']!r}; ChemGPT is read from gpt_neo alone.")
    width = _size(config, "hidden_size", 2048)
    depth = _size(config, "num_layers", 24)
    inner = config.get("intermediate_size") or 4 * width
    activation = config.get("activation_function", "gelu_new")
    epsilon = config.get("layer_norm_epsilon", NORM_EPS)
    wrong = {
        "activation_function": activation not in ACTIVATIONS and f"ChemGPT has {' and '.join(ACTIVATIONS)}",
        "layer_norm_epsilon": epsilon != NORM_EPS and f"ChemGPT's is {NORM_EPS}",
        "intermediate_size": inner % width != 0 and f"ChemGPT's is a multiple of hidden_size={width}",
    }
    for name, words in wrong.items():
        if words:
            raise ValueError(f"config.json says {name}={config[name]!r}; {words}, so these weights cannot be read.")
    return ChemGPT(
        width=width, depth=depth, heads=_size(config, "num_heads", 16), mlp_ratio=inner // width,
        context=_size(config, "max_position_embeddings", 2048), window=_window(config, depth), activation=activation,
        attention_scale=NEO.attention, init=config.get("initializer_range", 0.02),
        tied=config.get("tie_word_embeddings", True),
    )  # fmt: skip


def released_weights(model: ChemGPT, weights: Weights) -> dict[str, Tensor]:
    """A model's weights under GPT-Neo's names and with without factors, in float32.

    Raises:
        ValueError: the model has a setting that GPT-Neo cannot express.
    """
    _refuse_inexpressible(model)
    unscaled = rescaled(weights, Factors.of(model), NEO)
    return {_released_name(name): value.to(torch.float32).contiguous() for name, value in unscaled.items()}


def own_weights(model: ChemGPT, released: Weights) -> dict[str, Tensor]:
    """Weights under ChemGPT's names from those under GPT-Neo's, for the model that `model_of` says.

    The buffers of older checkpoints and the copy of a tied head are dropped; half precisions become float32.

    Raises:
        ValueError: a weight is missing, too many, or of another shape than the configuration says.
    """
    found = {_own_name(name): value for name, value in released.items() if not name.endswith(MASKS)}
    head = found.pop("lm_head.weight", None) if model.tied else None
    table = found.get("wte.weight")
    if head is not None and table is not None and not torch.equal(head, table):
        raise ValueError(
            "lm_head.weight is not transformer.wte.weight, though config.json ties them; these weights are damaged, or "
            "tie_word_embeddings should be false."
        )
    _require_shapes(model, found)
    return {name: value if value.dtype == torch.float64 else value.to(torch.float32) for name, value in found.items()}


def _require_shapes(model: ChemGPT, found: Weights) -> None:
    with torch.device("meta"):
        wanted = CausalTransformer(model, len(found["wte.weight"]) if "wte.weight" in found else 1).state_dict()
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    for what, names in (("lack", missing), ("hold", extra)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            known = ", which config.json needs" if what == "lack" else ", which ChemGPT has no place for"
            raise ValueError(f"the weights {what} {_released_name(names[0])}{more}{known}; give a whole checkpoint.")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{_released_name(name)} has shape {tuple(value.shape)}, config.json needs {tuple(wanted[name].shape)};"
                " configuration and weights belong to different models."
            )


def _released_name(name: str) -> str:
    return name if name.startswith("lm_head") else "transformer." + name.replace(".attn.", ".attn.attention.")


def _own_name(name: str) -> str:
    return name.removeprefix("transformer.").replace(".attn.attention.", ".attn.")


def _refuse_inexpressible(model: ChemGPT) -> None:
    for field in fields(model):
        value = getattr(model, field.name)
        if field.name not in EXPRESSED and value != field.default:
            raise ValueError(
                f"ChemGPT.{field.name}={value!r} has no place in GPT-Neo, so this model cannot be exported; "
                f"only models with {field.name}={field.default!r} can."
            )


def _window(config: Mapping[str, Any], depth: int) -> int | None:
    """What the odd layers see, from the list of layers that the configuration spells out or abbreviates."""
    types = config.get("attention_types") or [[["global", "local"], 12]]
    layers = config.get("attention_layers") or [kind for kinds, times in types for kind in kinds * times]
    if len(layers) != depth:
        raise ValueError(f"config.json has num_layers={depth} and {len(layers)} attention layers; give as many.")
    if set(layers) == {"global"}:
        return None
    if layers != [("global", "local")[layer % 2] for layer in range(depth)]:
        raise ValueError(
            f"config.json says attention_layers={layers}; ChemGPT's are all global, or global and local in turn."
        )
    return _size(config, "window_size", WINDOW)


def _size(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"config.json says {name}={value!r}; it must be an integer above 0.")
    return value


def same_function(one: ChemGPT, other: ChemGPT) -> str | None:
    """The first field in which two models' functions differ, None where weights of one suit the other.

    The initial spread is no part of a function, factors can be moved into the weights (`rescaled`), and a shorter
    context is the beginning of a longer one.
    """
    alike = replace(other, **{name: getattr(one, name) for name in FREE})
    return next((f.name for f in fields(one) if getattr(one, f.name) != getattr(alike, f.name)), None)

"""A trained ChemGPT as a folder of the Hugging Face hub, and such a folder as a model to use.

`transformers` loads the folder by `AutoModelForCausalLM` and `AutoTokenizer`; writing it needs `safetensors` alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from chemscale.batch import TextManifest
from chemscale.models.chemgpt import ChemGPT
from chemscale.models.gptneo import released_config, released_weights
from chemscale.train.released import CONFIG, TENSORS, TOKENIZER, TOKENIZER_CONFIG, read_json, read_released
from chemscale.use.card import card
from chemscale.use.load import Trained, unshown
from chemscale.use.release import refuse_full, whole_release
from chemscale.use.tokenizer import tokenizer, tokenizer_config

GENERATION_CONFIG, CARD = "generation_config.json", "README.md"
UNNAMED = re.compile(r"(?!<unused\d+>).*")  # rows of the weights that no token is named for
WHOLE = {"selfies": re.compile(r"\[(?!MASK\])[^\[\]]+\]|\.")}


@dataclass(frozen=True)
class Hub:
    """A model out of a folder of the hub: `module` in evaluation mode on the CPU, `manifest` with its alphabet.

    `never` are ids that are not to be drawn: those that generation_config.json suppresses, or, where it names none, all
    that are no whole token, as the pieces of the released vocabularies, which no molecule was ever cut into.
    """

    model: ChemGPT
    module: nn.Module
    manifest: TextManifest
    never: tuple[int, ...] = ()


def load_folder(folder: str | Path) -> Hub:
    """A ChemGPT of the released layout, e.g. what `export` wrote or a download of ncfrey/ChemGPT-4.7M.

    Raises:
        ValueError: a file is missing or damaged, or the weights are not those of a ChemGPT.
    """
    found = read_released(folder)
    module = found.model.build(found.manifest)
    module.load_state_dict(dict(found.weights))
    return Hub(found.model, module.eval(), found.manifest, _suppressed(Path(folder), found.manifest))


def export(trained: Trained, out: str | Path, *, row: dict[str, Any] | None = None, licence: str | None = None) -> Path:
    """Write a finished run as a folder that `transformers` loads; whole or not at all.

    Args:
        trained: of a ChemGPT; of any shape, since all have an exact place in GPT-Neo (`chemscale.models.gptneo`).
        out: a new or empty folder.
        row: its row of RUNS, from which the model card takes losses.
        licence: of the weights, as the hub spells it ("mit"), for the card.

    Returns:
        The folder.

    Raises:
        ValueError: the run is no ChemGPT, has a setting without a place in GPT-Neo, or the folder is not empty; or
            `safetensors` is missing.
    """
    model, out = trained.run.model, Path(out)
    if not isinstance(model, ChemGPT):
        raise ValueError(f"run {trained.run.id} is a {model.architecture}; only chemgpt has a place on the hub.")
    refuse_full(out)
    manifest = trained.manifest
    special = {
        "bos_token_id": manifest.start, "eos_token_id": manifest.end, "pad_token_id": manifest.pad,
    }  # fmt: skip
    config = {**released_config(model, len(manifest.vocabulary)), **special, "dtype": "float32"}
    weights = released_weights(model, trained.module.state_dict())
    texts = {
        CONFIG: as_text(config),
        GENERATION_CONFIG: as_text(_generation(trained, special)),
        TOKENIZER: as_text(tokenizer(manifest)),
        TOKENIZER_CONFIG: as_text(tokenizer_config(manifest, model.context)),
        CARD: card(trained, row or {}, licence),
    }
    _write(out, texts, weights)
    return out


def as_text(tree: Any) -> str:
    """A file of JSON as the hub has them."""
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _suppressed(folder: Path, manifest: TextManifest) -> tuple[int, ...]:
    file = folder / GENERATION_CONFIG
    said = read_json(file).get("suppress_tokens") if file.is_file() else None
    if said is not None:
        good = isinstance(said, list) and all(type(i) is int and 0 <= i < len(manifest.vocabulary) for i in said)
        if not good:
            raise ValueError(f"{file} has a suppress_tokens that lists no ids of the vocabulary; mend or remove it.")
        return tuple(said)
    whole = WHOLE.get(manifest.representation, UNNAMED)
    keep = {manifest.end}
    return tuple(i for i, text in enumerate(manifest.vocabulary) if i not in keep and not whole.fullmatch(text))


def _generation(trained: Trained, special: dict[str, int]) -> dict[str, Any]:
    """Sampling as `chemscale generate` does it: from all tokens but those that no string holds."""
    model, manifest = trained.run.model, trained.manifest
    never = sorted({manifest.pad, manifest.start, manifest.unknown, *unshown(trained)})
    return {**special, "do_sample": True, "top_k": 0, "max_length": model.context, "suppress_tokens": never}


def _write(out: Path, texts: dict[str, str], weights: dict[str, Tensor]) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ValueError("export needs the package safetensors; run `pip install 'chemscale[hub]'`.") from None
    with whole_release(out) as room:
        for name, text in texts.items():
            (room / name).write_text(text, encoding="utf-8")
        save_file(weights, room / TENSORS, metadata={"format": "pt"})

"""An alphabet as tokenizer.json, which cuts strings into the ids that chemscale's own data hold; plain values."""

from __future__ import annotations

import re
from typing import Any

from chemscale.batch import TextManifest
from chemscale.data.tokens import CONTINUES, SMILES_TOKEN
from chemscale.train.released import WRITTEN_IN

LONGEST_WORD = 100  # characters; WordPiece calls longer tokens unknown
PATTERNS = {"selfies": r"\[[^\]]*\]|\.", "smiles": SMILES_TOKEN, "protein": "."}


def tokenizer(manifest: TextManifest) -> dict[str, Any]:
    """The tree of tokenizer.json: cut at every token, look each up whole, wrap the row in start and end.

    Representations without a pattern of their own are cut into the longest tokens of the alphabet, and a character of
    none of them is one unknown token.
    """
    special = {name: manifest.vocabulary[i] for name, i in _roles(manifest).items()}
    start, end = special["start"], special["end"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, manifest.vocabulary[i]) for i in sorted(_roles(manifest).values())],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": _pattern(manifest)}, "behavior": "Isolated", "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_placed(start), {"Sequence": {"id": "A", "type_id": 0}}, _placed(end)],
            "pair": [
                _placed(start), {"Sequence": {"id": "A", "type_id": 0}}, _placed(end),
                {"Sequence": {"id": "B", "type_id": 1}}, _placed(end, 1),
            ],
            "special_tokens": {
                text: {"id": text, "ids": [manifest.vocabulary.index(text)], "tokens": [text]} for text in (start, end)
            },
        },
        "decoder": {"type": "Sequence", "decoders": [_replaced(CONTINUES), {"type": "Fuse"}]},
        "model": _model(manifest, special["unknown"]),
    }  # fmt: skip


def tokenizer_config(manifest: TextManifest, context: int) -> dict[str, Any]:
    """The tree of tokenizer_config.json: which tokens are special, and how long an input may be."""
    special = {name: manifest.vocabulary[i] for name, i in _roles(manifest).items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": special["pad"],
        "bos_token": special["start"],
        "eos_token": special["end"],
        "unk_token": special["unknown"],
        "model_max_length": context,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        WRITTEN_IN: manifest.representation,
    }


def _model(manifest: TextManifest, unknown: str) -> dict[str, Any]:
    """Tokens are looked up whole; in a vocabulary with pieces, as the released ones, others are cut into pieces."""
    model = {"vocab": {token: i for i, token in enumerate(manifest.vocabulary)}, "unk_token": unknown}
    if not any(token.startswith(CONTINUES) for token in manifest.vocabulary):
        return {"type": "WordLevel", **model}
    return {
        "type": "WordPiece", **model, "continuing_subword_prefix": CONTINUES, "max_input_chars_per_word": LONGEST_WORD,
    }  # fmt: skip


def _replaced(text: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": text}, "content": ""}


def _roles(manifest: TextManifest) -> dict[str, int]:
    return {name: getattr(manifest, name) for name in ("pad", "start", "end", "unknown")}


def _pattern(manifest: TextManifest) -> str:
    if manifest.representation in PATTERNS:
        return PATTERNS[manifest.representation]
    special = set(_roles(manifest).values())
    plain = (token for i, token in enumerate(manifest.vocabulary) if i not in special)
    return "|".join([*(re.escape(token) for token in sorted(plain, key=len, reverse=True)), "."])


def _added(number: int, text: str) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **plain, "special": True}


def _placed(text: str, kind: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": text, "type_id": kind}}

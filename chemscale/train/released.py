"""Weights as the Hugging Face hub holds them: a folder with config.json, tokenizer.json and the tensors.

`pytorch_model.bin` is read as tensors and nothing else: a pickle that would run code is refused.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chemscale.batch import TextManifest
from chemscale.models.chemgpt import ChemGPT
from chemscale.models.gptneo import model_of, own_weights

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
TENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"  # the first that is there is read
WRITTEN_IN = "representation"  # what `chemscale export` says in tokenizer_config.json of the strings
INDEX = ".index.json"  # beside weights in several files: which tensor lies in which
ROLES = {  # role -> its names in tokenizer_config.json, then its usual texts: ours, and the released tokenizers'
    "pad": (("pad_token",), ("<pad>", "[PAD]")),
    "start": (("bos_token", "cls_token"), ("<start>", "[CLS]")),
    "end": (("eos_token", "sep_token"), ("<end>", "[SEP]")),
    "unknown": (("unk_token",), ("<unknown>", "[UNK]")),
}


@dataclass(frozen=True)
class Released:
    """A ChemGPT out of a folder: its configuration, its weights under ChemGPT's names, its alphabet as a manifest."""

    model: ChemGPT
    weights: Mapping[str, Tensor]
    manifest: TextManifest


def is_released(folder: Path) -> bool:
    """Whether a folder looks like one of the hub."""
    return (folder / CONFIG).is_file()


def read_released(folder: str | Path) -> Released:
    """Read a folder of the hub; no code of it runs.

    The token ids of a released config.json (start and end 50256, no padding) are outside its vocabulary: the
    tokenizer's are used.

    Raises:
        ValueError: a file is missing or damaged, or the weights are not those of a ChemGPT.
    """
    folder = Path(folder)
    model = model_of(read_json(folder / CONFIG))
    weights = own_weights(model, _tensors(folder))
    return Released(model, weights, _alphabet(folder, len(weights["wte.weight"]), model.context))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights.

    Raises:
        ValueError: there are none.
    """
    for name in (TENSORS, PICKLED):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}{INDEX}").is_file():
            return [folder / part for part in sorted(set(read_json(folder / f"{name}{INDEX}")["weight_map"].values()))]
    raise ValueError(f"{folder} has no {TENSORS} and no {PICKLED}; give a folder with weights.")


def _tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise ValueError(f"{path} is not there, though {folder.name} names it; fetch the whole folder.")
        found |= _safe(path) if path.suffix == ".safetensors" else _unpickled(path)
    return found


def _safe(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ValueError(f"{path.name} needs the package safetensors; run `pip install 'chemscale[hub]'`.") from None
    from safetensors import SafetensorError

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}); fetch it again.") from None


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        why = "holds more than tensors" if isinstance(error, pickle.UnpicklingError) else "is damaged"
        raise ValueError(f"{path} {why}, so it is not read; give {TENSORS}, or a .bin that holds weights.") from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} is no mapping from names to tensors; give the file that `save_pretrained` wrote.")
    return dict(found)


def _alphabet(folder: Path, rows: int, context: int) -> TextManifest:
    """The tokens of tokenizer.json in the order of their ids, and which of them are special."""
    tree = read_json(folder / TOKENIZER)
    try:
        ids = dict(tree["model"]["vocab"]) | {token["content"]: token["id"] for token in tree["added_tokens"]}
        unknown = tree["model"].get("unk_token")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"{folder / TOKENIZER} has no model.vocab of tokens and ids; give that of a fast one."
        ) from None
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))) or len(tokens) > rows:
        raise ValueError(
            f"{folder / TOKENIZER} numbers {len(tokens)} tokens up to {max(ids.values(), default=0)}, the weights have "
            f"{rows} rows; give the tokenizer that the model was trained with."
        )
    said = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    roles = {role: _special(role, {**said, **({"unk_token": unknown} if unknown else {})}, ids) for role in ROLES}
    names = (*tokens, *(f"<unused{i}>" for i in range(len(tokens), rows)))
    written = said.get(WRITTEN_IN) or ("selfies" if "[C]" in ids else "smiles")  # SMILES have C without brackets
    found = TextManifest(
        str(folder), "text", "", 0, {}, {}, vocabulary=names, longest=context + 1, representation=written
    )
    return replace(found, **roles)


def _special(role: str, said: Mapping[str, Any], ids: Mapping[str, int]) -> int:
    for token in _candidates(role, said):
        if token in ids:
            return ids[token]
    fields, usual = ROLES[role]
    raise ValueError(
        f"{TOKENIZER} has no {role} token ({' or '.join(usual)}); name it as {fields[0]} in {TOKENIZER_CONFIG}."
    )


def _candidates(role: str, said: Mapping[str, Any]) -> Iterator[str]:
    fields, usual = ROLES[role]
    for field in fields:
        token = said.get(field)
        text = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(text, str):
            yield text
    yield from usual


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a folder of the hub.

    Raises:
        ValueError: it is missing or no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; give a folder of the hub with {CONFIG} and {TOKENIZER}.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object; fetch it again.")
    return found

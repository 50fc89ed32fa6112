"""The folder of an exported potential, read: config.json has model and data, model.safetensors the weights.

`chemscale.use.release` writes it and makes a working model of it; here training starts from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from chemscale.batch import AtomicManifest
from chemscale.spec import RunSpec, from_json

CONFIG, TENSORS = "config.json", "model.safetensors"
KIND = "chemscale potential"
VERSION = 1  # of the layout


@dataclass(frozen=True)
class Exported:
    """What an exported potential was: its run, the manifest of its data, and its weights."""

    run: RunSpec
    manifest: AtomicManifest
    weights: Mapping[str, Tensor]


def is_exported(folder: str | Path) -> bool:
    """Whether a folder is an exported potential."""
    try:
        return json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def read_exported(folder: str | Path) -> Exported:
    """Read such a folder; no code of it runs.

    Raises:
        ValueError: a file is missing or damaged, or of a newer chemscale.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config["version"] > VERSION:
        raise ValueError(f"{folder} has layout {config['version']}, this chemscale reads up to {VERSION}; upgrade it.")
    run = from_json(json.dumps(config["run"]))
    try:
        weights = load_file(folder / TENSORS)
    except Exception as error:  # safetensors has a class of its own, a missing file is an OSError
        raise ValueError(unlike(folder, error)) from None
    return Exported(run, _manifest(config["manifest"]), weights)


def unlike(folder: Path, error: Exception) -> str:
    """The sentence for weights that are not those of the model that config.json tells of."""
    said = " ".join(str(error).split())[:200]
    return f"{folder / TENSORS} does not hold the weights of {CONFIG}: {said}; export it again."


def _manifest(tree: dict[str, Any]) -> AtomicManifest:
    known = {f.name for f in fields(AtomicManifest)}
    values = {name: value for name, value in tree.items() if name in known}
    values["species"] = tuple(values["species"])
    values["reference"] = {int(z): energy for z, energy in values["reference"].items()}
    return AtomicManifest(**values)

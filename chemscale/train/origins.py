"""Whose weights a run starts from: another run, or a folder of weights; read, matched, and put into the new model.

Rows of the token table (of potentials: the species table) are matched by what they stand for, so that the alphabets of
two sources need not be the same; what the origin does not know starts as it would without it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chemscale import data
from chemscale.batch import AtomicManifest, Manifest, TextManifest
from chemscale.data.tokens import version_of
from chemscale.data.vocabulary import version_1
from chemscale.models.chemgpt import ChemGPT
from chemscale.models.gptneo import Factors, rescaled, same_function
from chemscale.records.attempt import WEIGHTS
from chemscale.records.store import Store
from chemscale.spec import InitFrom, RunSpec
from chemscale.train.exported import is_exported, read_exported
from chemscale.train.parallel import Whole
from chemscale.train.released import CONFIG, TOKENIZER, TOKENIZER_CONFIG, is_released, read_released, weight_files
from chemscale.train.state import kept_weights
from chemscale.values import canonical_json

TABLES = ("wte.weight", "lm_head.weight", "embedding.weight")  # a row for each token or element
POSITIONS = "wpe.weight"  # a row for each position: a shorter context takes the first
OF_DATA = ("row_of",)  # buffers that say which row an element has; the new data's stay
KNOWN = 64  # origins whose checksums a process remembers
SPECIAL = ("pad", "start", "end", "unknown")


@dataclass(frozen=True)
class Origin:
    """Trained weights: of which model, with rows for what; `content` is the checksum of all three."""

    model: Any
    weights: Mapping[str, Tensor]
    manifest: Manifest
    label: str

    @functools.cached_property
    def content(self) -> str:
        """SHA-256 over the function's configuration, the alphabet, and every weight."""
        model = {k: v for k, v in asdict(self.model).items() if k != "init"}
        digest = hashlib.sha256(canonical_json([self.model.architecture, model, _rows(self.manifest)]).encode())
        for name in sorted(self.weights):
            value = self.weights[name].detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Described:
    """An origin without its weights."""

    model: Any
    manifest: Manifest
    content: str
    run: str | None


@dataclass(frozen=True)
class Match:
    """Rows of the new tables that the origin has too: `rows[new] = old`; and what it does not know."""

    rows: Mapping[int, int]
    fresh: tuple[str, ...]


def completed(init: InitFrom, model: Any, manifest: Manifest) -> InitFrom:
    """The same origin with its checksum, its run's whole id, and how many rows match.

    Raises:
        ValueError: there are no such weights, they are not what `content` says, or they do not suit model or data.
    """
    found = _described(init)
    if init.content not in (None, found.content):
        raise ValueError(
            f"InitFrom.content={str(init.content)[:16]} is not what {init.label} holds ({found.content[:16]}); use the "
            "weights that the run was made with, or leave content open."
        )
    _require_model(model, found.model, init.label)
    matched = match(manifest, found.manifest)
    if not matched.rows:
        raise ValueError(
            f"RunSpec.init_from: {init.label} shares no token with {manifest.source!r}; its strings are of another "
            "kind, so start from weights that read the same strings."
        )
    return replace(init, run=found.run, content=found.content, matched=len(matched.rows), fresh=len(matched.fresh))


def model_of(init: InitFrom) -> Any:
    """The configuration of the model whose weights these are.

    Raises:
        ValueError: as `completed`.
    """
    return _described(init).model


def read(init: InitFrom) -> Origin:
    """The weights of a run or of a folder.

    Raises:
        ValueError: they are not there, or cannot be read.
    """
    if init.run is None:
        folder = _folder(init)
        if is_exported(folder):
            potential = read_exported(folder)
            return Origin(potential.run.model, potential.weights, potential.manifest, init.label)
        found = read_released(folder)
        return Origin(found.model, found.weights, found.manifest, init.label)
    store = Store(init.source)
    run = store.spec(init.run)
    return Origin(run.model, kept_weights(store, run.id), _manifest(run), init.label)


def match(now: Manifest, before: Manifest) -> Match:
    """Which rows stand for the same: special tokens by what they do, all others by their text, elements by number.

    Where one alphabet is of SELFIES 1, as the released one, and the other of SELFIES 2, tokens are translated.
    """
    new, old = _rows(now), _rows(before)
    texts, versions = list(new), [version_of(new), version_of(old)]
    new = [version_1(text) for text in new] if versions == [2, 1] else new
    old = [version_1(text) for text in old] if versions == [1, 2] else old
    place = {text: i for i, text in enumerate(old)}
    rows = {i: place[text] for i, text in enumerate(new) if text in place}
    return Match(rows, tuple(text for i, text in enumerate(texts) if i not in rows))


def start(layout: Whole, run: RunSpec, manifest: Manifest) -> None:
    """Put the origin's weights into a run's fresh model; every worker calls it, rank 0 reads.

    Raises:
        ValueError: the weights are gone, or not those that the run's id is made of.
    """
    assert run.init_from is not None
    fresh = layout.gather()
    layout.load_weights(_merged(fresh, run, manifest) if layout.ranks.first else {})


def _merged(fresh: Mapping[str, Tensor], run: RunSpec, manifest: Manifest) -> dict[str, Tensor]:
    init = run.init_from
    assert init is not None
    origin = read(init)
    if origin.content != init.content:
        raise ValueError(
            f"InitFrom.content={str(init.content)[:16]} is not what {init.label} holds ({origin.content[:16]}); "
            "the weights changed since the run was planned."
        )
    weights = dict(origin.weights)
    if isinstance(origin.model, ChemGPT):
        weights = rescaled(weights, Factors.of(origin.model), Factors.of(run.model))
    rows = match(manifest, origin.manifest).rows
    return {name: _taken(name, value, weights.get(name), rows, init) for name, value in fresh.items()}


def _taken(name: str, fresh: Tensor, trained: Tensor | None, rows: Mapping[int, int], init: InitFrom) -> Tensor:
    if name in OF_DATA:
        return fresh
    if trained is not None and name in TABLES and trained.shape[1:] == fresh.shape[1:]:
        merged = fresh.clone()
        merged[list(rows)] = trained[list(rows.values())].to(fresh.dtype)
        return merged
    if trained is not None and name == POSITIONS:
        trained = trained[: len(fresh)]
    if trained is None or trained.shape != fresh.shape:
        has = "no" if trained is None else f"a {tuple(trained.shape)}"
        raise ValueError(
            f"RunSpec.init_from: {init.label} has {has} {name}, this run's model a {tuple(fresh.shape)} one; start "
            "from weights of the same model."
        )
    return trained.to(fresh.dtype)


def _require_model(model: Any, origin: Any, label: str) -> None:
    if type(model) is not type(origin):
        raise ValueError(
            f"RunSpec.init_from: {label} is a {origin.architecture}, this run's model a {model.architecture}; start "
            "from weights of the same architecture."
        )
    if isinstance(model, ChemGPT):
        differs = same_function(model, origin)
        if model.context > origin.context:
            differs = "context"
    else:
        pairs = ((name, value) for name, value in asdict(model).items() if value != asdict(origin)[name])
        differs = next((name for name, _ in pairs), None)
    if differs is not None:
        name = f"{type(model).__name__}.{differs}"
        raise ValueError(
            f"RunSpec.init_from: {label} has {name}={getattr(origin, differs)!r}, this run's model "
            f"{name}={getattr(model, differs)!r}; give the run the model of the weights."
        )


def _rows(manifest: Manifest) -> list[str]:
    """What each row of the tables stands for."""
    if isinstance(manifest, AtomicManifest):
        return [str(int(number)) for number in manifest.species]
    assert isinstance(manifest, TextManifest)
    special = {getattr(manifest, role): f"<{role}>" for role in SPECIAL}
    return [special.get(i, text) for i, text in enumerate(manifest.vocabulary)]


def _described(init: InitFrom) -> Described:
    if init.run is None:
        folder = _folder(init)
        files = [folder / CONFIG, folder / TOKENIZER, folder / TOKENIZER_CONFIG, *weight_files(folder)]
        stats = [path.stat() for path in files if path.is_file()]
        return _of_folder(init, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))
    store = Store(init.source)
    run = store.spec(init.run)
    kept = [attempt.number for attempt in store.attempts(run.id) if attempt.holds(WEIGHTS)]
    return _of_run(replace(init, run=run.id), max(kept, default=0))


@functools.lru_cache(maxsize=KNOWN)
def _of_folder(init: InitFrom, _state: tuple[tuple[int, int], ...]) -> Described:
    return _without_weights(read(init), None)


@functools.lru_cache(maxsize=KNOWN)
def _of_run(init: InitFrom, _attempt: int) -> Described:
    return _without_weights(read(init), init.run)


def _without_weights(origin: Origin, run: str | None) -> Described:
    return Described(origin.model, origin.manifest, origin.content, run)


def _folder(init: InitFrom) -> Path:
    folder = Path(init.source).expanduser()
    if not is_released(folder):
        raise ValueError(
            f"InitFrom.source={init.source!r} holds no {CONFIG}; give a folder of the hub or of an exported potential, "
            "or a store with run=ID."
        )
    return folder


def _manifest(run: RunSpec) -> Manifest:
    """What the origin's data say of themselves; built where they are not yet, as for the run itself."""
    with contextlib.suppress(ValueError):
        return data.manifest(run.data)  # known by its content, wherever the file lies now
    how = {"representation": run.data.representation, "reading": run.data.reading}
    data.build(run.data.source, **how, processes=1, progress=False)
    return data.manifest(run.data)

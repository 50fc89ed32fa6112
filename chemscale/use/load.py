"""A finished run as something to use: its module with its trained weights, its data's manifest, its spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from chemscale import data
from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.train.beside import built
from chemscale.train.state import kept_weights


@dataclass(frozen=True)
class Trained:
    """A trained model: `module` in evaluation mode on the CPU, `manifest` of the data it was trained on."""

    run: RunSpec
    module: nn.Module
    manifest: Any

    def examples(self) -> Any:
        """The opened data of the run, e.g. to measure the model on its test split."""
        return data.open_data(self.run.data, self.run.model.view)


def load(store: Store, run_id: str) -> Trained:
    """The trained model of a finished run.

    Args:
        run_id: an id or an unambiguous beginning of one.

    Raises:
        ValueError: there is no such run, it has not finished, or its weights were not kept.
    """
    run = store.spec(run_id)
    weights = kept_weights(store, run.id)
    manifest = data.manifest(run.data)
    return Trained(run, built(run, weights, manifest), manifest)


def unshown(trained: Trained) -> tuple[int, ...]:
    """Ids of tokens that no molecule of the training pool holds: their logits were never trained to be likely.

    The end token is in none and in all.
    """
    examples, manifest = trained.examples(), trained.manifest
    counts = np.zeros(len(manifest.vocabulary), dtype=np.int64)
    offsets, tokens = examples.arrays["offsets"], examples.arrays["tokens"]
    inside = examples.arrays["split"] == 0
    for first in range(0, len(inside), 1 << 18):  # a quarter of a million molecules at a time
        chunk = inside[first : first + (1 << 18)]
        start, stop = offsets[first], offsets[first + len(chunk)]
        lengths = np.diff(offsets[first : first + len(chunk) + 1])
        counts += np.bincount(tokens[start:stop][np.repeat(chunk, lengths)], minlength=len(counts))
    return tuple(int(i) for i in np.flatnonzero(counts == 0) if i != manifest.end)

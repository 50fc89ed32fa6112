"""A finished run as something to use: its module with its trained weights, its data's manifest, its spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from chemscale import data
from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.train.precision import parameter_type
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
    module = run.model.build(manifest).to(parameter_type(run.precision))
    module.load_state_dict(weights)
    return Trained(run, module.eval(), manifest)

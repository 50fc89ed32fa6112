"""The points of a run as TensorBoard event files, with its hyperparameters.

The step axis counts examples seen, so that runs of different batch sizes lie over each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCALARS = ("train_loss", "valid_loss", "lr", "gradient_norm", "flops", "epochs")
HYPERPARAMETERS = ("architecture", "params", "width", "depth", "examples", "batch", "lr", "weight_decay", "seed")


class Board:
    """Event files of one run below `STORE/tensorboard/ARCHITECTURE/RUN`.

    Args:
        folder: where the files go.
        first_example: events of an earlier attempt from here on are hidden, since this attempt measures them again.
    """

    def __init__(self, folder: Path, first_example: int):
        from tensorboardX import SummaryWriter  # a second to import, so only where events are written

        self._writer = SummaryWriter(str(folder), purge_step=first_example, flush_secs=10)

    def point(self, row: Mapping[str, Any]) -> None:
        """One measurement."""
        metrics = {k: v for k, v in row.items() if k in SCALARS or (k.startswith("valid_") and not k.endswith("_se"))}
        for name, value in metrics.items():
            if value is not None:
                self._writer.add_scalar(f"run/{name}", value, row["examples"])

    def close(self, row: Mapping[str, Any] | None = None) -> None:
        """Write the hyperparameters with the final test metrics of a terminal row, if there is one, and close."""
        if row is not None and row.get("law_loss") is not None:
            names = (row["law_metric"], "law_loss")
            final = {f"final/{name}": row[name] for name in names if row.get(name) is not None}
            given = {name: row[name] for name in HYPERPARAMETERS if row.get(name) is not None}
            self._writer.add_hparams(given, final, name="final", global_step=row["examples_seen"])
        self._writer.close()

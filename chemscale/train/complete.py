"""From a run as people write it to a run that has an id: what its data and its family's rules decide."""

from __future__ import annotations

from dataclasses import replace

from chemscale import data
from chemscale.spec import RunSpec
from chemscale.train import origins
from chemscale.train.objectives import objective_of
from chemscale.train.optim import ladder_lr


def complete(run: RunSpec) -> RunSpec:
    """Fill in the data's checksum, sizes of whole splits, the family's learning rate, and whose weights it starts from.

    Raises:
        ValueError: the source is unknown or not built yet, it feeds another family, or it holds fewer examples than
            `data.size`; its warm-up is longer than itself; or the weights that it is to start from do not suit it; the
            message says what to do.
    """
    manifest = data.manifest(run.data)
    if manifest.family != run.model.family:
        raise ValueError(
            f"Data.source={run.data.source!r} holds {manifest.family}, {type(run.model).__name__} trains on "
            f"{run.model.family}; choose a source of that family (`chemscale data list`)."
        )
    objective_of(run)
    size = run.data.size
    if size is None or run.data.per_group is not None:
        size = len(data.open_data(run.data, run.model.view).subset(size, run.data.key, run.data.per_group))
    elif size > manifest.counts["train"]:
        raise ValueError(
            f"Data.size={size} is more than the {manifest.counts['train']} training examples of "
            f"{run.data.source!r}; ask for at most that many."
        )
    asked = run.evaluation
    evaluation = replace(
        asked,
        valid=min(asked.valid or manifest.counts["valid"], manifest.counts["valid"]),
        test=min(asked.test or manifest.counts["test"], manifest.counts["test"]),
    )
    found = replace(
        run,
        data=replace(run.data, content=manifest.content, size=size),
        optim=replace(run.optim, lr=ladder_lr(run.model) if run.optim.lr is None else run.optim.lr),
        evaluation=evaluation,
        init_from=None if run.init_from is None else origins.completed(run.init_from, run.model, manifest),
    )
    if (found.optim.warmup_updates or 0) > found.updates:
        raise ValueError(
            f"Optim.warmup_updates={found.optim.warmup_updates} is more than the {found.updates} updates of a run on "
            f"{size:,} examples, which would never reach its rate; use fewer, or give it more updates."
        )
    return found

"""A store with the runs of a search in it that no training made: what samplers and results are tested on."""

from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.train.rows import opening_row


def record(store: Store, run: RunSpec, losses, *, study="search", status="finished", of=None, **columns):
    """Write a run whose validation losses came at equal steps, the first of `of`.

    A `status` that is no worker's ends without a row.
    """
    store.enlist(study, [run])
    opening = opening_row(run) | {"params": 1000, "lineage": columns.pop("lineage", None)}
    attempt = store.claim(run, opening)
    for k, loss in enumerate(losses, start=1):
        share = k / (of or len(losses))
        examples = round(run.examples * share)
        attempt.point({"run_id": run.id, "step": k, "examples": examples, "valid_loss": loss})
    attempt.flush()
    if status in ("finished", "diverged"):
        loss = losses[-1] if status == "finished" else None
        row = opening | {
            "status": status,
            "valid_loss": loss,
            "examples_seen": run.examples,
            "flops": 1.0,
            "seconds": 1.0,
        }
        attempt.end(row | columns)
    elif status in ("stopped", "failed"):
        store.mark(run.id, status, "for a test")
    return run

"""The trained model that a caller means: of a store, of an exported folder, or already at hand."""

from __future__ import annotations

from pathlib import Path

from chemscale.records.store import Store
from chemscale.use.load import Trained, load

CALLED = {"text": "text run", "structures": "potential"}  # a trained model of a family


def is_store(where: str | Path) -> bool:
    """Whether a store lies there; what an address on the network holds is known once it is opened."""
    return "://" in str(where) or (Path(where).expanduser() / "store.json").is_file()


def trained_in(source: Store | Trained | str | Path, run: str | None, family: str) -> Trained:
    """A trained model of a family.

    Args:
        source: a store or its place, the folder of an exported potential, or a trained model, which is given back.
        run: of a store, an id or an unambiguous beginning of one; None takes the one with the lowest test loss.
        family: "text" or "structures".

    Raises:
        ValueError: there is no such run, or it is of another family.
    """
    import chemscale.models  # noqa: F401  # registers the models
    from chemscale.train.exported import is_exported
    from chemscale.use.release import read_release

    if isinstance(source, Trained):
        return source
    if not isinstance(source, Store) and is_exported(source):
        if run is not None:
            raise ValueError(f"run={run!r} names a run of a store, but {str(source)!r} is an exported model; leave it.")
        return read_release(source)
    store = source if isinstance(source, Store) else Store(source)
    found = load(store, best_run(store, family) if run is None else run)
    if found.run.model.family != family:
        raise ValueError(f"run {found.run.id} is a {found.run.model.architecture}; this needs a {CALLED[family]}.")
    return found


def best_run(store: Store, family: str) -> str:
    """The finished run of a family with the lowest test loss.

    Raises:
        ValueError: none has finished.
    """
    rows = store.runs(family=family, status="finished").to_pylist()
    if not rows:
        raise ValueError(f"{store.url} has no finished {CALLED[family]}; train one first, or name a run.")
    return min(rows, key=lambda row: row["law_loss"])["run_id"]

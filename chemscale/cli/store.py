"""What a store holds and what can be done with it: list, compact, du, merge, prune, verify."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from chemscale.cli.output import bytes_text, print_json, print_rows, told_on_terminal

LISTED = ("run_id", "architecture", "params", "examples", "seed", "status", "law_metric", "law_loss", "stop_reason")


def store_list(given: argparse.Namespace) -> None:
    """The runs of a store."""
    from chemscale.records.store import Store

    print_rows(Store(given.store).runs(columns=LISTED).to_pylist(), given.json)


def store_compact(given: argparse.Namespace) -> None:
    """Fold ended runs into a few large files, so that a store of very many runs opens fast."""
    from chemscale.records.compact import compact
    from chemscale.records.store import Store

    with told_on_terminal("folding runs") as told:
        done = compact(Store(given.store), progress=told)
    if given.json:
        return print_json({"runs": done.runs, "files_removed": done.files, "snapshots": done.snapshots})
    return print(
        f"{done.runs} runs folded, {done.files} files removed; {done.snapshots} snapshots hold what has ended."
    )


def store_du(given: argparse.Namespace) -> None:
    """What a store takes on disk, by kind of file, by study and by architecture."""
    from chemscale.records.manage import KINDS, usage
    from chemscale.records.store import Store

    found = usage(Store(given.store))
    parts = {"in all": found.whole}
    parts |= {f"study {name}": each for name, each in sorted(found.studies.items())}
    parts |= {f"architecture {name}": each for name, each in sorted(found.architectures.items())}
    if given.json:
        named = ({"what": name, "bytes": dict(each.bytes), "files": dict(each.files)} for name, each in parts.items())
        return print_json(list(named))
    rows = [
        {
            "": name,
            **{kind: f"{bytes_text(each.bytes[kind])} in {each.files[kind]}" for kind in KINDS if each.files[kind]},
            "sum": f"{bytes_text(each.bytes.total())} in {each.files.total()}",
        }
        for name, each in parts.items()
    ]
    columns = [kind for kind in ("", *KINDS, "sum") if any(kind in row for row in rows)]
    return print_rows([{kind: row.get(kind) for kind in columns} for row in rows], as_json=False)


def store_merge(given: argparse.Namespace) -> int:
    """Several stores as one: runs, studies and forecasts; a run that two hold comes once."""
    from chemscale.records.merge import merge
    from chemscale.records.store import Store

    sources = [Store(path) for path in given.stores]
    if given.prefer is not None and given.prefer not in given.stores:
        raise ValueError(f"--prefer {given.prefer!r} is none of the stores; give one of {', '.join(given.stores)}.")
    prefer = sources[given.stores.index(given.prefer)] if given.prefer is not None else None
    with told_on_terminal("copying runs") as told:
        done = merge(sources, Store(given.into, create=True), prefer=prefer, progress=told)
    conflicts = done.conflicts or {}
    refused = bool(conflicts) and prefer is None
    if given.json:
        print_json({"copied": done.copied, "same": done.same, "running": done.running, "conflicts": conflicts})
        return 1 if refused else 0
    for run_id in done.running:
        print(f"run {run_id} is training now and was left out; merge again when it has ended.")
    for run_id, columns in conflicts.items():
        print(f"run {run_id} differs in {', '.join(columns)}.")
    if refused:
        print(f"{len(conflicts)} finished runs differ and nothing was copied; --prefer STORE says whose win.")
        return 1
    print(f"{done.copied} runs copied into {given.into}; {done.same} of its own stay.")
    return 0


def store_prune(given: argparse.Namespace) -> None:
    """Free disk: weights, states, event files, unfinished runs; never what is training, never a finished record."""
    from chemscale.records.manage import kind_of, plan_pruning, prune
    from chemscale.records.store import Store

    store = Store(given.store)
    chosen = _where(store, given.where) if given.where else None
    plan = plan_pruning(store, keep=given.keep, unfinished=given.unfinished, events=given.events, runs=chosen)
    if not given.dry_run:
        with told_on_terminal("removing files") as told:
            plan = prune(store, plan, progress=told)
    freed: Counter[str] = Counter()
    for name, size in plan.files:
        freed[kind_of(name)] += size
    if given.json:
        return print_json(
            {"dry_run": given.dry_run, "bytes": plan.bytes, "by_kind": dict(freed), "files": len(plan.files),
             "runs": plan.runs}
        )  # fmt: skip
    would = "would free" if given.dry_run else "freed"
    kinds = ", ".join(f"{bytes_text(size)} of {kind}" for kind, size in sorted(freed.items()))
    print(f"{would} {bytes_text(plan.bytes)} in {len(plan.files)} files{f' ({kinds})' if kinds else ''}.")
    if plan.runs:
        print(f"{'would forget' if given.dry_run else 'forgot'} {len(plan.runs)} runs: {', '.join(plan.runs)}.")
    return None


def store_verify(given: argparse.Namespace) -> int:
    """Whether every file reads and every record agrees with the others; exit status 1 where not."""
    from chemscale.records.store import Store
    from chemscale.records.verify import repair, verify

    store = Store(given.store)
    with told_on_terminal("reading runs") as told:
        faults = verify(store, progress=told)
    repaired = repair(store, faults) if given.repair else []
    left = [fault for fault in faults if not (given.repair and fault.repair)]
    if given.json:
        rows = [{"what": f.what, "wrong": f.wrong, "todo": f.todo, "repairable": bool(f.repair)} for f in left]
        print_json({"faults": rows, "repaired": repaired})
        return 1 if left else 0
    for fault in left:
        print(f"{fault.what}: {fault.wrong}; {fault.todo}.")
    for name in repaired:
        print(f"{name}: removed.")
    print(f"{len(left)} faults." if left else f"{store.url} is whole.")
    return 1 if left else 0


def _where(store: Any, text: str) -> set[str]:
    from chemscale.laws.tables.where import matches

    columns = store.runs().to_pydict()
    return {run_id for run_id, keep in zip(columns["run_id"], matches(columns, text), strict=True) if keep}

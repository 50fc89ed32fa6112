"""Sources: list, build, fetch, report, label."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from chemscale.cli.options import refuse_unused
from chemscale.cli.output import print_json, print_record, print_rows, writable_parquet
from chemscale.cli.survey import structure_lines, survey_lines

OF_GEOMETRIES = (  # options of `label` that say which geometries to make
    "fragments", "max_atoms", "molecules", "conformers", "temperatures", "states", "charges", "sampling", "per_shape",
    "seed", "noise",
)  # fmt: skip


def data_list(given: argparse.Namespace) -> None:
    """Known sources."""
    from chemscale import data

    rows = [
        {"name": s.name, "family": s.family, "licence": s.licence, "origin": s.origin} for s in data.sources().values()
    ]
    print_rows(rows, given.json)


def data_build(given: argparse.Namespace) -> None:
    """Turn a source into what training reads; a build that was killed goes on where it was."""
    from chemscale import data

    with _cluster(given):
        manifest = data.build(given.source, **_how(given))
    print_record({k: v for k, v in manifest.to_dict().items() if k != "vocabulary"}, given.json)


def data_fetch(given: argparse.Namespace) -> None:
    """Download a source that is not embedded."""
    from chemscale import data

    folder = data.fetch(given.name)
    print_json({"path": folder}) if given.json else print(folder)


def data_report(given: argparse.Namespace) -> None:
    """What a source holds, before anything trains: coverage, lengths, elements, duplicates, bad lines."""
    from chemscale import data

    with _cluster(given):
        told = data.report(*given.source, **_how(given), sample=given.sample)
    if given.json:
        return print_json(told)
    lines = survey_lines if "examples" in told else structure_lines
    return print("\n".join(lines(told)))


def data_label(given: argparse.Namespace) -> None:
    """Molecules to structures with GFN2-xTB energies and forces, or such structures labelled again by DFT."""
    from chemscale.data.label import label

    writable_parquet(given.out)
    if given.method == "wb97x":
        from chemscale.data.spot_checks import spot_check

        refuse_unused(given, OF_GEOMETRIES, "says nothing with --method wb97x, which takes geometries as they are")
        again = spot_check(given.smiles, given.out, structures=given.structures, processes=given.processes)
        told = {"out": again.out, "rejected": again.rejected, **again.metadata["levels"]}
        return print_record({**told, "seconds": round(again.seconds)}, given.json)
    refuse_unused(given, ("structures",), "goes with --method wb97x; of molecules --molecules says how many")
    made = label(
        given.smiles, given.out, fragments=given.fragments, max_atoms=given.max_atoms,
        molecules=given.molecules, conformers=given.conformers,
        temperatures=_numbers("--temperatures", given.temperatures, "kelvin", "100,300,600"),
        seed=given.seed, processes=given.processes, noise=given.noise, states=given.states,
        charges=_numbers("--charges", given.charges, "elementary charges", "0,1,-1"),
        sampling=given.sampling, per_shape=given.per_shape,
    )  # fmt: skip
    counts = made.metadata["counts"]
    told = {"out": made.out, "rejected": made.rejected, **counts, "seconds": round(made.seconds)}
    return print_record(told, given.json)


def _how(given: argparse.Namespace) -> dict[str, Any]:
    from chemscale.spec import Reading

    reading = Reading(**{field.name: getattr(given, field.name) for field in fields(Reading)})
    return {"representation": given.representation, "reading": reading, "processes": given.processes}


@contextmanager
def _cluster(given: argparse.Namespace) -> Iterator[None]:
    """The Ray cluster that was asked for; this machine's processors where none was."""
    if given.address is None:
        yield
        return
    import ray

    from chemscale.sweep.cluster import join

    join(given.address, "--address")
    try:
        yield
    finally:
        ray.shutdown()


def _numbers(option: str, text: str, unit: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r} is not a list of {unit}; write e.g. {example}.") from None

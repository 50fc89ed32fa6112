"""Sources: list, build, fetch, report, label."""

from __future__ import annotations

import argparse

from chemscale.cli.output import print_json, print_record, print_rows


def data_list(given: argparse.Namespace) -> None:
    """Known sources."""
    from chemscale import data

    rows = [
        {"name": s.name, "family": s.family, "licence": s.licence, "origin": s.origin} for s in data.sources().values()
    ]
    print_rows(rows, given.json)


def data_build(given: argparse.Namespace) -> None:
    """Turn a source into what training reads."""
    from chemscale import data

    manifest = data.build(given.source, representation=given.representation)
    print_record({k: v for k, v in manifest.to_dict().items() if k != "vocabulary"}, given.json)


def data_fetch(given: argparse.Namespace) -> None:
    """Download a source that is not embedded."""
    from chemscale import data

    folder = data.fetch(given.name)
    print_json({"path": folder}) if given.json else print(folder)


def data_report(given: argparse.Namespace) -> None:
    """What a source holds, before anything trains."""
    from chemscale import data

    print_record(data.report(given.source), given.json)


def data_label(given: argparse.Namespace) -> None:
    """Molecules to structures with GFN2-xTB energies and forces."""
    from chemscale.data.label import label

    made = label(
        given.smiles, given.out, fragments=given.fragments, max_atoms=given.max_atoms,
        molecules=given.molecules, conformers=given.conformers, temperatures=_numbers(given.temperatures),
        seed=given.seed, processes=given.processes, noise=given.noise,
    )  # fmt: skip
    counts = made.metadata["counts"]
    print_record({"out": made.out, "rejected": made.rejected, **counts, "seconds": round(made.seconds)}, given.json)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--temperatures {text!r} is not a list of kelvin; write e.g. 100,300,600.") from None

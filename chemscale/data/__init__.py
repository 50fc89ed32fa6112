"""Examples in: named, checksummed, memory-mapped, nested by size.

build("moses")                                      # once; later calls find it built
examples = open_data(Data("moses"), {"context": 64})
examples.batch(examples.subset(1000, key=0, per_group=None)[:32])
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.batch import Manifest, TextManifest
from chemscale.data.examples import AtomicExamples, Examples, TextExamples, open_examples
from chemscale.data.files import FASTA_SUFFIXES, kind_of
from chemscale.data.folders import built_folder, folder_of, folder_with
from chemscale.data.overlaps import Overlap, overlap_of
from chemscale.data.sources import Source, fetched, resolve, sources
from chemscale.data.staging import discard_parts, scratch_folder
from chemscale.data.store import MANIFEST_FILE, REJECTED_FILE, open_arrays, read_manifest
from chemscale.data.store import verify as verify_folder
from chemscale.home import home
from chemscale.spec import REPRESENTATIONS, Data, Reading

__all__ = [
    "AtomicExamples",
    "Examples",
    "Source",
    "TextExamples",
    "build",
    "fetch",
    "manifest",
    "open_data",
    "overlap",
    "report",
    "representation_of",
    "sources",
    "verify",
]


def build(
    source: str,
    *,
    representation: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - a frozen value
    processes: int | None = None,
    progress: bool | None = None,
) -> Manifest:
    """Build a known source or a user's file, whole or not at all; nothing to do where it is built already.

    A build that is killed goes on where it was when it is started again.

    Args:
        source: a name of `sources()`, or the path of a file, or of a folder with files of structures.
        representation: of strings, "selfies", "smiles" or "protein"; None takes "protein" for FASTA files and "selfies"
            for others; structures ignore it.
        reading: how strings or structures are read out of the file.
        processes: how many of this machine work at it; None takes, for strings, the processors of the Ray cluster that
            this process is connected to, or else all of this machine. Structures are read where their file lies.
        progress: None shows a bar on a terminal and lines elsewhere; False shows nothing.

    Raises:
        ValueError: the source is unknown, not fetched, or holds nothing that can be used.
    """
    found = resolve(source)
    representation = _representation(found, representation)
    folder = folder_of(found, representation, reading)
    if (folder / MANIFEST_FILE).is_file():
        discard_parts(home() / "building", folder.name)
        return read_manifest(folder)
    if found.family == "text":
        from chemscale.data.molecules import build_molecules

        return build_molecules(found, folder, representation, reading, processes, progress)
    from chemscale.data.structures import build_structures

    return build_structures(found, folder, reading, processes, progress)


def representation_of(source: str) -> str:
    """What strings of a known source or a user's file are read as where nothing says so: "protein" for FASTA files,
    "selfies" for others."""
    return _representation(resolve(source), None)


def manifest(data: Data) -> Manifest:
    """What a built source says of itself.

    Raises:
        ValueError: it is not built (the message names the command), or is not what `data.content` says.
    """
    found = read_manifest(_folder(data))
    if data.content is not None and data.content != found.content:
        raise ValueError(
            f"Data.content={data.content[:16]} is not what {data.source!r} holds here ({found.content[:16]}); "
            "use the file that the run was made with, or leave content open."
        )
    return found


def overlap(data: Data) -> Overlap:
    """What the splits of a built source share: held-out examples that are trained on too, groups in two splits.

    Raises:
        ValueError: it is not built, or is not what `data.content` says.
    """
    manifest(data)
    return overlap_of(_folder(data))


def open_data(data: Data, view: Mapping[str, Any]) -> TextExamples | AtomicExamples:
    """The examples of a built source, the way a model views them: {"context": tokens} or {"cutoff":
    angstrom}.

    Raises:
        ValueError: it is not built, is not what `data.content` says, or does not suit the view.
    """
    return open_examples(_folder(data), manifest(data), view)


def fetch(name: str) -> Path:
    """Download what the package does not ship: "moses", after which `build("moses-full")` and its metrics work.

    Raises:
        ValueError: nothing of that name can be fetched.
        RuntimeError: the download failed, or brought another file than the known one.
    """
    if name not in ("moses", "moses-full"):
        raise ValueError(f"{name!r} cannot be fetched; the one name that can is moses.")
    from chemscale.data.moses import fetch_moses
    from chemscale.data.moses_published import fetch_published

    fetch_published(fetched("moses-published"))
    return fetch_moses(fetched("moses"))


def verify(source: str, *, representation: str | None = None, reading: Reading = Reading()) -> None:  # noqa: B008
    """Compare every array of a built source with its checksum.

    Raises:
        ValueError: it is not built, or an array is not what was built.
    """
    found = resolve(source)
    verify_folder(built_folder(found, _representation(found, representation), reading))


def report(
    source: str,
    *others: str,
    representation: str | None = None,
    reading: Reading = Reading(),  # noqa: B008
    sample: int | None = None,
    processes: int | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """What a source holds, before anything is built or trains, as plain values.

    Strings are read and encoded as a build would, and nothing is kept: see `survey` for what is told. Structures are
    built first. What a build left is told too, where there is one. Of several sources of structures it is told what
    each holds ("sources") and which structures lie at the same coordinates in two of them ("shared").

    Args:
        source, representation, reading, processes, progress: as for `build`.
        others: more sources of structures.
        sample: look at about so many strings, spread over the whole file; None looks at all.

    Raises:
        ValueError: the source is unknown or not fetched, or is written in another notation than it is read in.
    """
    if others:
        return _several((source, *others), reading, processes, progress)
    found = resolve(source)
    representation = _representation(found, representation)
    if found.family != "text":
        build(source, reading=reading, processes=processes, progress=progress)
        return _built(folder_of(found, representation, reading))
    from chemscale.data.survey import survey

    told = survey(found, representation, reading, sample, processes, progress)
    folder = folder_of(found, representation, reading)
    return {**told, "built": _built(folder) if (folder / MANIFEST_FILE).is_file() else None}


def _several(names: tuple[str, ...], reading: Reading, processes: int | None, progress: bool | None) -> dict[str, Any]:
    from chemscale.data.duplicates import shared

    strings = next((name for name in names if resolve(name).family == "text"), None)
    if strings is not None:
        raise ValueError(
            f"source {strings!r} holds strings, which are reported on one at a time; leave out the others."
        )
    told = [report(name, reading=reading, processes=processes, progress=progress) for name in names]
    with scratch_folder(home() / "building") as scratch:
        found = shared([Path(each["folder"]) for each in told], names, scratch / "members")
    return {"sources": told, **found}


def _built(folder: Path) -> dict[str, Any]:
    found = read_manifest(folder)
    sizes = np.diff(open_arrays(folder)["offsets"])
    unit = "tokens" if isinstance(found, TextManifest) else "atoms"
    lengths = {"mean": float(sizes.mean()), "longest": int(sizes.max()), "unit": unit}
    own = {k: v for k, v in found.to_dict().items() if v or k in ("rejected", "counts")}
    return {**own, "lengths": lengths, "folder": str(folder), "rejected_file": str(folder / REJECTED_FILE)}


def _representation(source: Source, asked: str | None) -> str:
    if asked is not None and asked not in REPRESENTATIONS:
        raise ValueError(f"representation={asked!r} is not one of {', '.join(REPRESENTATIONS)}.")
    if asked is not None or source.family != "text":
        return asked or "selfies"
    return "protein" if kind_of(source.files[0][1]) in FASTA_SUFFIXES else "selfies"


def _folder(data: Data) -> Path:
    try:
        return built_folder(resolve(data.source), data.representation, data.reading)
    except ValueError:  # moved or called from elsewhere; what was built of it is known by its content
        found = None if data.content is None else folder_with(data.content)
        if found is None:
            raise
        return found

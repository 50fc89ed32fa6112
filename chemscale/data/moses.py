"""MOSES: fetch the full set out of its wheel, and choose the part of it that ships with the package.

`python -m chemscale.data.moses FOLDER` writes the embedded files again from the fetched full set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.sources import MOSES_CITATION, MOSES_LICENCE, MOSES_SHA256, fetched

WHEEL = "molsets==0.3.1"
FILES = ("train.csv.gz", "test.csv.gz", "test_scaffolds.csv.gz")
SIZES = {"train": 100_000, "valid": 5_000, "test": 5_000}  # molecules that ship with the package
METADATA_KEY = b"chemscale"


def fetch_moses(folder: Path) -> Path:
    """Download the wheel with pip, check it, and unpack its three SMILES files; the wheel is never imported.

    Raises:
        RuntimeError: pip could not download it, or what came is not the known file.
    """
    return fetch_from_wheel(folder, FILES, _unpack)


def fetch_from_wheel(folder: Path, names: Sequence[str], unpack: Callable[[zipfile.ZipFile, Path], None]) -> Path:
    """Fill a folder with what `unpack` takes out of the checked wheel, whole or not at all; nothing if it has `names`.

    Raises:
        RuntimeError: pip could not download it, what came is not the known file, or the folder holds a part of it.
    """

    def there() -> bool:
        return all((folder / name).is_file() for name in names)

    if there():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        wheel = _download(Path(temporary) / "wheel")
        _check(wheel)
        unpacked = Path(temporary) / folder.name
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            unpack(archive, unpacked)
        try:
            os.rename(unpacked, folder)
        except OSError as error:  # somebody else has filled it meanwhile, or left half of it before
            if not there():
                raise RuntimeError(f"{folder} lacks some of its files; delete it and fetch again.") from error
    return folder


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("molsets-*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"pip could not download {WHEEL}: {said}; check the package index and try again.")
    return wheels[0]


def _check(wheel: Path) -> None:
    with wheel.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != MOSES_SHA256:
        raise RuntimeError(
            f"{wheel.name} has the SHA-256 {found[:16]}… and not the known {MOSES_SHA256[:16]}…; it was not unpacked."
        )


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    for name in FILES:
        with archive.open(f"moses/dataset/data/{name}") as packed, (folder / name).open("wb") as out:
            shutil.copyfileobj(packed, out)


def read_embedded(path: Path) -> tuple[list[str], tuple[str, ...], np.ndarray, np.ndarray]:
    """SMILES, SELFIES alphabet, (tokens,) uint8 ids end to end, and (molecules,) int64 lengths of a file of ours."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[METADATA_KEY])
    rows = table["selfies"].to_pylist()
    tokens = np.frombuffer(b"".join(rows), dtype=np.uint8)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return table["smiles"].to_pylist(), tuple(facts["alphabet"]), tokens, lengths


def choose(train: list[str], held_out: list[str]) -> dict[str, list[str]]:
    """Which molecules ship: the first ones in a keyed hash order, one of each group, no group twice.

    A molecule is left out when a tautomer or stereoisomer of it was taken before, so that every
    molecule that ships is a group of its own and its canonical SMILES can serve as the group's key.
    """
    taken: set[str] = set()
    chosen = {"train": _first_of_groups(train, SIZES["train"], taken)}
    rest = _first_of_groups(held_out, SIZES["valid"] + SIZES["test"], taken)
    return chosen | {"valid": rest[: SIZES["valid"]], "test": rest[SIZES["valid"] :]}


def _first_of_groups(smiles: list[str], count: int, taken: set[str]) -> list[str]:
    from rdkit import Chem

    from chemscale.data.groups import group_key

    chosen: list[str] = []
    for text in _hash_ordered(smiles):
        molecule = Chem.MolFromSmiles(text)
        key = group_key(molecule)
        if key not in taken:
            taken.add(key)
            chosen.append(Chem.MolToSmiles(molecule))
        if len(chosen) == count:
            return chosen
    raise ValueError(f"only {len(chosen)} of the {count} molecules asked for have a group of their own.")


def _hash_ordered(smiles: list[str]) -> Iterator[str]:
    from chemscale.data.subsets import digests, scattered_order

    for i in scattered_order(np.arange(len(smiles)), digests(smiles), "embedded"):
        yield smiles[i]


def write_embedded(folder: Path, chosen: dict[str, list[str]], facts: dict[str, Any]) -> None:
    """Write `moses-train.parquet`, `-valid` and `-test`: sorted SMILES with their SELFIES tokens, a byte each."""
    import selfies

    strings = {split: [selfies.encoder(s) for s in sorted(smiles)] for split, smiles in chosen.items()}
    alphabet = sorted(selfies.get_alphabet_from_selfies(s for rows in strings.values() for s in rows))
    for split, smiles in chosen.items():
        facts = {**facts, "split": split, "alphabet": alphabet}
        _write_one(folder / f"moses-{split}.parquet", sorted(smiles), strings[split], facts)


def _write_one(path: Path, smiles: list[str], strings: list[str], facts: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from chemscale.data.tokens import split_string

    ids = {token: i for i, token in enumerate(facts["alphabet"])}
    tokens = [bytes(ids[t] for t in split_string(s, "selfies")) for s in strings]
    table = pa.table({"smiles": pa.array(smiles, pa.string()), "selfies": pa.array(tokens, pa.binary())})
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(facts, sort_keys=True).encode()})
    encodings = dict.fromkeys(table.column_names, "DELTA_BYTE_ARRAY")
    options: dict[str, Any] = {
        "use_dictionary": False,
        "column_encoding": encodings,
        "data_page_size": 1 << 24,
    }
    pq.write_table(table, path, compression="zstd", compression_level=22, **options)


def main(folder: str) -> None:
    """Choose and write the embedded files from the fetched full set."""
    import selfies
    from rdkit import rdBase

    from chemscale.data import readers

    full = fetch_moses(fetched("moses"))
    texts = {name: [text for _, text in readers.read_strings(full / name)] for name in FILES[:2]}
    facts = {
        "licence": MOSES_LICENCE,
        "citation": MOSES_CITATION,
        "origin": f"{WHEEL} (wheel SHA-256 {MOSES_SHA256})",
        "command": "python -m chemscale.data.moses FOLDER",
        "versions": {"rdkit": rdBase.rdkitVersion, "selfies": selfies.__version__},
    }
    write_embedded(Path(folder), choose(texts[FILES[0]], texts[FILES[1]]), facts)


if __name__ == "__main__":
    main(sys.argv[1])

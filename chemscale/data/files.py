"""Files of text, plain or packed, and one sentence for what is damaged."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FASTA_SUFFIXES = (".fasta", ".fa", ".faa")
PLAIN_SUFFIXES = (".smi", ".txt", ".csv", ".tsv", *FASTA_SUFFIXES)
TEXT_SUFFIXES = (*PLAIN_SUFFIXES, ".zip", *(f"{suffix}.gz" for suffix in PLAIN_SUFFIXES))
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # how files of spreadsheets begin
_ENCRYPTED = 0x1  # flag bit of a zip member

_DAMAGE = (  # what a file raises that is not what its name says, or is cut short
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    UnicodeError,
    csv.Error,
    NotImplementedError,  # a zip archive with a compression that Python does not know
)


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, io.TextIOWrapper]]:
    """The text inside a plain, gzipped or zipped file, and the lower-case name that tells its kind.

    Raises:
        ValueError: the file is damaged, or a zip archive that does not hold exactly one text file.
    """
    name = path.name.lower()
    with path.open("rb") as raw, _told(path):
        if name.endswith(".gz"):
            yield name.removesuffix(".gz"), _text(gzip.GzipFile(fileobj=raw))
        elif name.endswith(".zip"):
            with zipfile.ZipFile(raw) as archive:
                member = _only_text(path, archive)
                if archive.getinfo(member).flag_bits & _ENCRYPTED:
                    raise zipfile.BadZipFile(f"{member} is locked with a password")
                yield member.lower(), _text(archive.open(member))
        else:
            yield name, _text(raw)


def kind_of(path: Path) -> str:
    """The suffix that tells how to read a file: of the packed file, where it is packed."""
    name = path.name.lower()
    if name.endswith(".zip"):
        with opened(path) as (name, _):
            return Path(name).suffix
    return Path(name.removesuffix(".gz")).suffix


def count_lines(path: Path) -> int:
    """Lines of the file, headers of a FASTA file, or rows of a Parquet file; for a progress bar."""
    kind = kind_of(path)
    if kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            return 0  # whoever reads the file says what is wrong with it
    with opened(path) as (_, handle):
        if kind in FASTA_SUFFIXES:
            return sum(line.startswith(">") for line in handle)
        blocks = iter(lambda: bytes(handle.buffer.read(1 << 20)), b"")
        return sum(block.count(b"\n") for block in blocks)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into one sentence that names the file and the next step."""
    try:
        yield
    except _DAMAGE as error:
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        kind = {".gz": "gzip file", ".zip": "zip archive", ".csv": "CSV file"}.get(path.suffix.lower(), "text file")
        packed = "" if kind.endswith(("CSV file", "text file")) else ", or the unpacked text"
        raise ValueError(
            f"Data.source={str(path)!r} cannot be read as a {kind}: {why}; give a whole {kind}{packed}."
        ) from error


def _text(handle: Any) -> io.TextIOWrapper:
    if handle.peek(2)[:2] in _UTF_16:
        raise UnicodeError("it is UTF-16; save it as UTF-8")
    return io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline="")


def _only_text(path: Path, archive: zipfile.ZipFile) -> str:
    members = [m for m in archive.namelist() if m.lower().endswith(PLAIN_SUFFIXES) and not m.startswith("__MACOSX")]
    if len(members) != 1:
        found = ", ".join(archive.namelist()[:5]) or "nothing"
        kinds = ", ".join(PLAIN_SUFFIXES)
        raise ValueError(f"{path} must hold exactly one text file ({kinds}), and holds {found}; pack that file alone.")
    return members[0]

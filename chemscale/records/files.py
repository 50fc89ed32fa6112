"""Files that are whole or absent: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Create or replace `path` in one step; a kill at any moment leaves the old file or the new one."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:  # a full disk says no path, a missing folder that of the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A mapping as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, allow_nan=False).encode()
    write_whole(path, lambda file: file.write(text))


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping that `write_json` wrote; None where there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def write_table(path: Path, table: pa.Table) -> None:
    """A table as zstd Parquet, whole or not at all."""
    write_whole(path, lambda file: pq.write_table(table, file, compression="zstd"))


def create_once(path: Path, value: Mapping[str, Any]) -> bool:
    """Write JSON under a name that nobody has taken yet; False, and nothing written, where somebody has.

    The content is complete before the name exists: a hard link to a finished temporary file is the exclusive step.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(value, indent=1, allow_nan=False).encode())
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink(missing_ok=True)
    return True

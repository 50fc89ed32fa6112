"""Where files live: a folder on a disk, or what lies behind a URL. Every file is whole or absent, whenever a writer is
killed.

Names are relative to the place, with "/" between their parts: `runs/ab12/spec.json`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

TRIES = 5  # to make a file in a folder that another process tidies away because it is empty


class DamagedError(ValueError):
    """A file that is there and does not read. why: what the reader said."""

    def __init__(self, file: str, error: object) -> None:
        self.why = " ".join(str(error).split())
        super().__init__(
            f"{file} does not read: {self.why}; restore it from a copy or remove it, and see what else "
            "`chemscale store verify` finds."
        )


class Place(ABC):
    """A folder that holds whole files.

    Every kind of place passes the same tests. What cannot be reached or written raises OSError, what is not there is
    None or an empty list.

    Attributes:
        url: how a user names it: a path, or e.g. s3://bucket/folder.
    """

    url: str

    @abstractmethod
    def at(self, folder: str) -> Place:
        """A place below this one; it need not exist yet."""

    def anchored(self, name: str) -> Place:
        """This place, where `name` always exists: while it does not, the place cannot be reached, which is an OSError.

        Only a disk needs it: a folder that is not mounted looks like an empty one.
        """
        return self

    def local(self) -> LocalPlace | None:
        """The folder on a disk that this place is or stands in front of; None elsewhere."""
        return None

    def settle(self) -> None:
        """Return once all that was written is there: at once, except where writes may wait (`records.spool`)."""
        return

    @abstractmethod
    def write(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        """Create or replace a file in one step, with the folders on its way; a kill leaves the old file or the new."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Write a file under a name that nobody has taken yet; False, and nothing written, where somebody has."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO | None:
        """A file to read, seekable; None where there is none."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Names of the files and folders in a folder, sorted; temporary ones left out; [] where there is no folder."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of this name."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take away a file, or a folder with all it holds; what is not there stays so."""

    def files(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """(name, bytes) of every file in a folder and below it, temporary ones too where they can be seen."""
        for name in self.names(folder):
            path = f"{folder}/{name}" if folder else name
            if self.names(path):
                yield from self.files(path)
            elif (file := self.open(path)) is not None:
                with file:
                    yield path, file.seek(0, os.SEEK_END)

    def tidy(self, folder: str) -> None:  # noqa: B027  # where folders are only prefixes of names there is nothing to do
        """Take away a folder that holds nothing."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        file = self.open(name)
        if file is None:
            return None
        with file:
            return file.read()

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """A mapping as JSON, whole or not at all."""
        content = as_json(value)
        self.write(name, lambda file: file.write(content))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The mapping that `write_json` wrote; None where there is no such file."""
        content = self.read(name)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            raise DamagedError(f"{self.url}/{name}", error) from None

    def write_table(self, name: str, table: pa.Table) -> None:
        """A table as zstd Parquet, whole or not at all."""
        self.write(name, lambda file: pq.write_table(table, file, compression="zstd"))

    def read_table(self, name: str) -> pa.Table | None:
        """The table that `write_table` wrote; None where there is no such file."""
        content = self.read(name)
        try:
            return None if content is None else read_parquet(pa.BufferReader(content))
        except (pa.ArrowException, OSError) as error:  # of pages that do not unpack it says that a stream ends early
            raise DamagedError(f"{self.url}/{name}", error) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


class LocalPlace(Place):
    """A folder on a disk: written under a temporary name, flushed, then renamed."""

    def __init__(self, path: str | Path, anchor: Path | None = None):
        self.path = Path(path).expanduser().absolute()
        self.url = str(self.path)
        self._anchor = anchor

    def at(self, folder: str) -> LocalPlace:
        return LocalPlace(self.path / folder, self._anchor)

    def anchored(self, name: str) -> LocalPlace:
        return LocalPlace(self.path, self.path / name)

    def local(self) -> LocalPlace:
        return self

    def write(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        """Under a temporary name beside it, which then becomes the file's."""
        target = self.path / name
        try:
            temporary = self._temporary(target)
            try:
                _fill(temporary, write)
                os.replace(temporary[1], target)
            except BaseException:
                Path(temporary[1]).unlink(missing_ok=True)
                raise
        except OSError as error:  # a full disk says no path, a missing folder that of the temporary file
            self._leave(name)
            raise OSError(error.errno, error.strerror, str(target)) from error

    def create(self, name: str, content: bytes) -> bool:
        """By a hard link, which fails where the name is taken."""
        target = self.path / name
        temporary = self._temporary(target)
        try:
            _fill(temporary, lambda file: file.write(content))
            os.link(temporary[1], target)  # the content is complete before the name exists
        except FileExistsError:
            return False
        except OSError as error:  # a full disk names no file
            Path(temporary[1]).unlink(missing_ok=True)
            self._leave(name)
            raise OSError(error.errno, error.strerror, str(target)) from error
        finally:
            Path(temporary[1]).unlink(missing_ok=True)
        return True

    def open(self, name: str) -> BinaryIO | None:
        try:
            return (self.path / name).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            self._require_anchor()
            return None

    def names(self, folder: str = "") -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.path / folder) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            self._require_anchor()
            return []

    def exists(self, name: str) -> bool:
        if (self.path / name).exists():
            return True
        self._require_anchor()
        return False

    def remove(self, name: str) -> None:
        target = self.path / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def files(self, folder: str = "") -> Iterator[tuple[str, int]]:
        for parent, _, names in os.walk(self.path / folder):
            for name in names:
                file = Path(parent, name)
                with contextlib.suppress(FileNotFoundError):  # taken away since it was listed
                    yield file.relative_to(self.path).as_posix(), file.stat().st_size

    def tidy(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # it holds something, or is gone already
            (self.path / folder).rmdir()

    def _leave(self, name: str) -> None:
        """Take away the folder of a file that could not be written where it holds nothing."""
        folder, _, _ = name.rpartition("/")
        if folder:  # the place itself may be a folder that somebody gave
            self.tidy(folder)

    def _temporary(self, target: Path) -> tuple[int, str]:
        def made() -> tuple[int, str]:
            path = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp"))
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), path  # who may read it, the umask says

        for _ in range(TRIES):
            try:
                return made()
            except FileNotFoundError:  # not there yet, or tidied away between the two lines
                self._require_anchor()  # never rebuild a store in the folder where its disk was mounted
                target.parent.mkdir(parents=True, exist_ok=True)
        return made()

    def _require_anchor(self) -> None:
        if self._anchor is not None and not self._anchor.exists():
            raise OSError(errno.ENOTCONN, "the store cannot be reached", str(self._anchor.parent))


def place_at(where: str | Path | Place) -> Place:
    """The place that a path or a URL names.

    Raises:
        ValueError: the URL is of no known kind, or what it needs is not installed.
    """
    if isinstance(where, Place):
        return where
    kind = str(where).split("://", 1)[0] if "://" in str(where) else None
    if kind is None:
        return LocalPlace(where)
    if kind not in ("s3", "gs"):
        raise ValueError(f"store={str(where)!r} is of no known kind; give a folder, s3://BUCKET/… or gs://BUCKET/….")
    try:
        from chemscale.records.objects import ObjectPlace
    except ModuleNotFoundError as error:
        extra = {"s3": "s3", "gs": "gcs"}[kind]
        raise ValueError(
            f"store={str(where)!r} needs the package {error.name!r}; `pip install 'chemscale[{extra}]'` brings it."
        ) from None
    return ObjectPlace(str(where))


def as_json(value: Mapping[str, Any]) -> bytes:
    """A mapping as it lies in a file; a number that is not finite is refused."""
    return json.dumps(value, indent=1, allow_nan=False).encode()


def read_parquet(
    file: Any, columns: Sequence[str] | None = None, among: tuple[str, Sequence[str]] | None = None
) -> pa.Table:
    """A table from an open file or a buffer, by this thread alone.

    A thread of pyarrow may still hold what is no path when the process ends, and to let go of it there aborts the
    process (apache/arrow 34314, 50482): neither datasets, `pq.read_table` among them, nor buffering ahead are used.

    Args:
        file: what pyarrow reads: a binary file, a `pa.BufferReader`.
        columns: those wanted, all where None.
        among: (name, values) of a column of strings: only rows that hold one of these values; row groups that hold none
            by their statistics are not read.
    """
    parquet = pq.ParquetFile(file, pre_buffer=False)
    if among is None:
        return parquet.read(columns, use_threads=False)
    name, values = among
    table = parquet.read_row_groups(_groups(parquet.metadata, name, values), columns, use_threads=False)
    wanted = pyarrow.compute.SetLookupOptions(pa.array(values, pa.string()))
    return table.filter(pyarrow.compute.call_function("is_in", [table[name]], wanted))


def _groups(metadata: pq.FileMetaData, name: str, values: Sequence[str]) -> list[int]:
    """The row groups that may hold one of these values of a column."""
    column, ordered = metadata.schema.names.index(name), sorted(values)
    kept = []
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or bisect_left(ordered, known.min) < bisect_right(ordered, known.max):
            kept.append(group)
    return kept


def _fill(temporary: tuple[int, str], write: Callable[[BinaryIO], Any]) -> None:
    with os.fdopen(temporary[0], "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())

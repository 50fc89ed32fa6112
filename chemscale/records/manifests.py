"""Which snapshots of a store count, and how a reader and several writers agree on it.

A manifest is a small file with the next free number, created exclusively: of two writers that build on the same one,
only the first is heard. Snapshots never change; one that no manifest names any more is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from chemscale.records.place import Place, as_json

TRIES = 50  # a reader starts again where a newer manifest appeared while it read

T = TypeVar("T")


class SupersededError(Exception):
    """A file of a manifest has gone: there is a newer manifest, or something is wrong."""


@dataclass(frozen=True)
class Snapshot:
    """Two files of one name.

    Attributes:
        runs, points: rows in them.
        without: runs in them that a later snapshot holds again, or that were pruned.
    """

    name: str
    runs: int
    points: int
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Which snapshots count, oldest first."""

    number: int = 0
    snapshots: tuple[Snapshot, ...] = ()


class Manifests:
    """The manifests of one store."""

    def __init__(self, place: Place):
        self.place = place
        self._manifest = Manifest()

    def newest(self) -> int:
        """The number of the manifest that holds; 0 where nothing has been folded yet."""
        return max((int(n.removesuffix(".json")) for n in self.place.names("manifests")), default=0)

    def manifest(self) -> Manifest:
        """The manifest that holds."""
        while (number := self.newest()) != self._manifest.number:
            found = self.place.read_json(f"manifests/{number:09d}.json")
            if found is not None:  # else it was replaced and removed since it was listed
                self._manifest = read_manifest(number, found)
        return self._manifest

    def steadily(self, read: Callable[[Manifest], T]) -> T:
        """What `read` makes of a manifest and the live files, all of one moment of the manifest.

        Raises:
            OSError: a manifest names a snapshot that is missing, or a new one appears faster than it can be read.
        """
        gone = None
        for _ in range(TRIES):
            manifest = self.manifest()
            try:
                found = read(manifest)
            except SupersededError as error:
                self.require_newer(manifest, error)
                gone = error
                continue
            if self.newest() == manifest.number:
                return found
        raise OSError(f"{self.place.url} changed {TRIES} times while it was read{f' ({gone})' if gone else ''}.")

    def require_newer(self, manifest: Manifest, gone: SupersededError) -> None:
        """There is a newer manifest, which explains why a file of this one has gone.

        Raises:
            OSError: there is none.
        """
        if self.newest() == manifest.number:
            raise OSError(
                f"{self.place.url} names {gone} in its manifest, but there is no such file; "
                f"`chemscale store verify {self.place.url}` says what is left."
            ) from None

    def publish(self, base: Manifest, snapshots: Sequence[Snapshot]) -> bool:
        """Make these the snapshots that count; False, and nothing changed, where another did since `base`."""
        content = as_json({"snapshots": [asdict(snapshot) for snapshot in snapshots]})
        name = f"manifests/{base.number + 1:09d}.json"
        if self.newest() != base.number:
            return False
        if not self.place.create(name, content) and self.place.read(name) != content:
            return False  # equal, it is this one, and only the answer to its creation was lost
        kept = {snapshot.name for snapshot in snapshots}
        for old in base.snapshots:
            if old.name not in kept:
                self.discard(old.name)
        for name in self.place.names("manifests"):
            if int(name.removesuffix(".json")) < base.number:
                self.place.remove(f"manifests/{name}")
        return True

    def discard(self, name: str) -> None:
        """Remove the files of a snapshot that does not count."""
        for file in files_of(name):
            self.place.remove(file)


def read_manifest(number: int, content: Mapping[str, Any]) -> Manifest:
    """A manifest as its file says it."""
    found = [Snapshot(**{**each, "without": tuple(each["without"])}) for each in content["snapshots"]]
    return Manifest(number, tuple(found))


def files_of(name: str) -> tuple[str, str]:
    """Where the two tables of a snapshot lie: its runs, and its points."""
    return f"snapshots/{name}.runs.parquet", f"snapshots/{name}.points.parquet"

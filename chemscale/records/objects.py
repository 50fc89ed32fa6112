"""Where files live: below a prefix of a bucket on S3 or Google Cloud Storage, or a server of their protocol.

An object is visible only once all of it has arrived, so a file is whole or absent by the protocol itself. obstore, not
pyarrow.fs, carries it: pyarrow completes an upload whose writer raised, and has no conditional put.

    s3://BUCKET/FOLDER    gs://BUCKET/FOLDER    s3://BUCKET/FOLDER?region=eu-west-1&endpoint=http://HOST:9000
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from copy import copy
from datetime import timedelta
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import GCSStore, S3Store

from chemscale.records.place import Place

OPTIONS = {"s3": ("anonymous", "endpoint", "region"), "gs": ("endpoint",)}
PART_BYTES = 8 * 2**20  # of one request of an upload; 10,000 of them are 80 GB
STAGED_BYTES = 64 * 2**20  # a larger file is staged on the local disk, not in memory, before it is sent
READ_BYTES = 4 * 2**20
RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}  # longer outages are the spool's
TIMEOUTS: Any = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=30)}
NOBODY = {"client_email": "", "private_key": "", "private_key_id": ""}

_conditional: set[tuple[str, str]] = set()  # buckets seen to refuse a second create


class ObjectPlace(Place):
    """A prefix of a bucket.

    Credentials are found as the cloud's own tools find them: environment variables, the instance's or pod's role, and,
    where boto3 is installed, AWS profiles.

    Args:
        url: s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, with `?endpoint=` of another server, which for gs:// asks for no
            credentials; s3:// also knows `region=` and `anonymous=true`.

    Raises:
        ValueError: no bucket, or an option that does not exist.
    """

    def __init__(self, url: str):
        parts = urlsplit(url.strip())
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.netloc or "@" in parts.netloc:
            raise ValueError(f"store={url!r} names no bucket; give {parts.scheme}://BUCKET/FOLDER.")
        for name in options:
            if name not in OPTIONS[parts.scheme]:
                allowed = ", ".join(OPTIONS[parts.scheme])
                raise ValueError(f"store={url!r} has an option {name!r}; {parts.scheme}:// knows {allowed}.")
        self._scheme, self._bucket, self._query = parts.scheme, parts.netloc, parts.query
        self._prefix = "/".join(part for part in parts.path.split("/") if part)
        self._client: Any = _client(parts.scheme, parts.netloc, tuple(sorted(options.items())))
        self.url = self._named()

    def __reduce__(self) -> Any:
        return ObjectPlace, (self.url,)  # every process has a client of its own

    def __copy__(self) -> ObjectPlace:
        made = object.__new__(ObjectPlace)
        vars(made).update(vars(self))
        return made

    def at(self, folder: str) -> ObjectPlace:
        below = copy(self)
        below._prefix = self._key(folder)
        below.url = below._named()
        return below

    def write(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        with tempfile.SpooledTemporaryFile(max_size=STAGED_BYTES) as file:
            write(cast(BinaryIO, file))  # what raises here has sent nothing
            file.seek(0)
            with self._reached(name):
                obstore.put(self._client, self._key(name), file, chunk_size=PART_BYTES)

    def create(self, name: str, content: bytes) -> bool:
        """By a conditional write; a store that ignores the condition is refused."""
        bucket = (self._scheme, self._bucket)
        if not self._put_new(name, content):
            return False
        if bucket not in _conditional:
            if self._put_new(name, content):  # the same bytes again, so that asking does no harm
                raise OSError(
                    errno.ENOTSUP, "its server ignores `If-None-Match: *`, so two writers would share a run", self.url
                )
            _conditional.add(bucket)
        return True

    def _put_new(self, name: str, content: bytes) -> bool:
        with self._reached(name):
            try:
                obstore.put(self._client, self._key(name), content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def open(self, name: str) -> BinaryIO | None:
        try:
            with self._reached(name):
                return io.BufferedReader(_Ranges(self, name), READ_BYTES)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes | None:
        try:
            with self._reached(name):
                return obstore.get(self._client, self._key(name)).bytes().to_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str = "") -> list[str]:
        prefix = self._key(folder)
        with self._reached(folder):
            found = obstore.list_with_delimiter(self._client, prefix or None)
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return sorted(name for path in paths if (name := path[len(prefix) :].strip("/")) and not name.startswith("."))

    def exists(self, name: str) -> bool:
        with self._reached(name):
            try:
                obstore.head(self._client, self._key(name))
            except FileNotFoundError:
                return next(self._below(name), None) is not None
        return True

    def remove(self, name: str) -> None:
        with self._reached(name):
            below = list(self._below(name))
            if below:
                obstore.delete(self._client, below)
            with contextlib.suppress(FileNotFoundError):
                obstore.delete(self._client, self._key(name))

    def files(self, folder: str = "") -> Iterator[tuple[str, int]]:
        with self._reached(folder):
            for page in obstore.list(self._client, self._key(folder) or None):
                yield from ((meta["path"].removeprefix(self._prefix).lstrip("/"), meta["size"]) for meta in page)

    def _below(self, name: str) -> Iterator[str]:
        for page in obstore.list(self._client, self._key(name)):
            yield from (meta["path"] for meta in page)

    def _named(self) -> str:
        where = f"{self._scheme}://{self._bucket}/{self._prefix}".rstrip("/")
        return f"{where}?{self._query}" if self._query else where

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self._prefix, name.strip("/")) if part)

    @contextlib.contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseError as error:
            raise OSError(errno.EIO, _sentence(error), self.at(name).url) from None


class _Ranges(io.RawIOBase):
    """An object read piece by piece, seekable."""

    def __init__(self, place: ObjectPlace, name: str):
        self._place, self._name, self._at = place, name, 0
        self._size = obstore.head(place._client, place._key(name))["size"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        with self._place._reached(self._name):
            piece = obstore.get_range(self._place._client, self._place._key(self._name), start=self._at, length=wanted)
        buffer[:wanted] = memoryview(piece)
        self._at += wanted
        return wanted

    def readall(self) -> bytes:
        rest = bytearray(max(0, self._size - self._at))
        view, done = memoryview(rest), 0
        while count := self.readinto(view[done : done + PART_BYTES]):
            done += count
        return bytes(rest)


@functools.lru_cache(maxsize=16)
def _client(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> Any:
    given = dict(options)
    anonymous = given.get("anonymous", "").lower() in ("1", "true", "yes")
    common: dict[str, Any] = {"retry_config": RETRIES, **({"skip_signature": True} if anonymous else {})}
    if scheme == "gs":
        if endpoint := given.get("endpoint"):
            common["service_account_key"] = json.dumps({"gcs_base_url": endpoint, "disable_oauth": True, **NOBODY})
        return GCSStore(bucket, client_options=_timeouts(given.get("endpoint")), **common)
    endpoint = given.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        common["endpoint"] = endpoint
    if "region" in given:
        common["region"] = given["region"]
    if not anonymous and "AWS_ACCESS_KEY_ID" not in os.environ:
        common |= _profile("region" not in given)
    return S3Store(bucket, client_options=_timeouts(endpoint), **common)


def _timeouts(endpoint: str | None) -> Any:
    return {**TIMEOUTS, "allow_http": bool(endpoint) and str(endpoint).startswith("http://")}


def _profile(with_region: bool) -> dict[str, Any]:
    """What boto3 knows and obstore does not: profiles, single sign-on, the region of a profile."""
    if importlib.util.find_spec("boto3") is None:
        return {}
    from boto3.session import Session
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = Session()
    if session.get_credentials() is None:
        return {}
    region = {"region": session.region_name} if with_region and session.region_name else {}
    return {"credential_provider": Boto3CredentialProvider(session), **region}


def _sentence(error: BaseException) -> str:
    """The server's own code and message where it sent them, else the first line."""
    text = str(error)
    said = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL)
    return f"{said[1]}: {said[2]}" if said else text.splitlines()[0].strip()

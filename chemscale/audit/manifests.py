"""Manifests of the data behind runs, where they are on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from chemscale.audit.groups import Group
from chemscale.spec import Data


def manifests_of(groups: Iterable[Group]) -> dict[str, Any]:
    """Data content -> manifest; a source that is not built here, or was built differently, is left out."""
    found: dict[str, Any] = {}
    for group in groups:
        if group.content not in found and (manifest := manifest_of(group)) is not None:
            found[group.content] = manifest
    return found


def overlaps_of(groups: Iterable[Group]) -> dict[str, Any]:
    """Data content -> what its splits share on this machine; built nowhere here, it is left out."""
    from chemscale import data

    found: dict[str, Any] = {}
    for group in groups:
        if group.content in found:
            continue
        with suppress(ValueError, TypeError, OSError, KeyError):
            mine = Data(**json.loads(group.rows[0]["spec"])["data"])
            if data.manifest(mine).content == group.content:
                found[group.content] = data.overlap(mine)
    return found


def manifest_of(group: Group) -> Any | None:
    """The manifest of a group's data, or None."""
    from chemscale import data

    try:
        manifest = data.manifest(Data(**json.loads(group.rows[0]["spec"])["data"]))
    except (ValueError, TypeError, OSError):
        return None
    return manifest if manifest.content == group.content else None

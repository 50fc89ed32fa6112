"""Manifests of the data behind runs, where they are on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
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


def manifest_of(group: Group) -> Any | None:
    """The manifest of a group's data, or None."""
    from chemscale import data

    try:
        manifest = data.manifest(Data(**json.loads(group.rows[0]["spec"])["data"]))
    except (ValueError, TypeError, OSError):
        return None
    return manifest if manifest.content == group.content else None

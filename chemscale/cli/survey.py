"""What a file holds, in words: a survey of strings, or what was built of structures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 12  # entries of a list that people read; --json has all


def survey_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The lines of what `chemscale.data.report` tells of strings."""
    what = "proteins" if told["representation"] == "protein" else "molecules"
    looked = "records" if told["sample"] is None else f"records, a sample of about {told['sample']:,}"
    yield f"{told['source']}: {told['records']:,} {looked}, {told['examples']:,} {what} that can be used"
    bad = sum(told["rejected"].values())
    yield f"bad lines    {bad:,}{_listed(told['rejected'], ': ')}"
    for row in told["first_rejected"][:_SHOWN]:
        yield f"  line {row['line']:,}: {row['reason']}  {row['text'][:60]!r}"
    yield f"duplicates   {told['duplicates']:,}, in {told['groups']:,} groups that stay in one split each"
    if told["removed"]:
        yield f"removed      {_listed(told['removed'])} (molecules)"
    if told["lengths"]:
        found = told["lengths"]
        yield (
            f"lengths      mean {found['mean']:.1f}, median {found['q50']}, 90 % up to {found['q90']}, 99 % up to "
            f"{found['q99']}, longest {found['longest']} tokens with start and end"
        )
    if told["elements"]:
        yield f"elements     {_listed(told['elements'])} (molecules with each)"
    yield f"alphabet     {len(told['tokens'])} tokens: {_listed(told['tokens'])}"
    if told["coverage"]:
        yield from _coverage(told["coverage"], what)
    if told.get("built"):
        built = told["built"]
        yield f"built        {_listed(built['counts'])}, in {built['folder']}"


def structure_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The lines of what `chemscale.data.report` tells of one or several sources of structures."""
    for each in told.get("sources", [told]):
        yield from _structures(each)
    for pair in told.get("shared", []):
        one, other = pair["files"]
        first, second = pair["structures"]
        yield f"shared       {second:,} structures of {other} lie at coordinates of {first:,} of {one}"
        yield f"  {_listed(pair['splits'])}; first: {', '.join(f'{a} = {b}' for a, b in pair['first'][:_SHOWN])}"
    if "sources" in told and not told["shared"]:
        yield "shared       none: no two sources have a structure at the same coordinates"


def _structures(told: Mapping[str, Any]) -> Iterator[str]:
    notes, counts = told["notes"], told["counts"]
    yield f"{told['source']}: {sum(counts.values()):,} structures ({_listed(counts)}), read as {notes['read_as']}"
    yield f"units        {notes['read_units']}, kept in {notes['units']}"
    bad = sum(told["rejected"].values())
    yield f"bad records  {bad:,}{_listed(told['rejected'], ': ')}" + (f"; see {told['rejected_file']}" if bad else "")
    yield f"labels       {_listed(notes['labelled'])}; force scale {told['scale']:.4g} eV/angstrom"
    if notes.get("labels"):
        yield f"  {notes['labels']}"
    if notes.get("states"):
        yield f"states       {_listed(notes['states'])}"
    yield f"atoms        mean {told['lengths']['mean']:.1f}, largest {told['largest']}; elements {_elements(told)}"
    yield f"splits       {notes.get('splits', 'by group')}"
    yield f"groups       {notes['groups']}" + (f"; {notes['ungrouped']:,} without" if notes["ungrouped"] else "")
    yield f"reference    {notes['reference']}"
    if notes.get("reference_open"):
        yield f"  {notes['reference_open']}"
    found = notes["duplicates"]
    across = _listed(found["across_splits"]) or "none across splits"
    yield f"duplicates   {found['repeated']:,} structures at coordinates that came before, {across}"
    yield f"built        {told['folder']}"


def _elements(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{number} ({float(energy):.3f} eV)" for number, energy in told["reference"].items())


def _coverage(found: Mapping[str, Any], what: str) -> Iterator[str]:
    yield (
        f"vocabulary   {found['vocabulary']} knows {_share(found['tokens_known'])} of tokens and all tokens of "
        f"{_share(found['examples_known'])} of {what}; {found['used']} of its {found['entries']} entries are used"
    )
    if found["unknown"]:
        yield f"unknown      {len(found['unknown'])} tokens: {_listed(found['unknown'])}"
    if found["in_pieces"]:
        yield f"in pieces    {len(found['in_pieces'])} tokens: {_listed(found['in_pieces'])}"


def _listed(counts: Mapping[str, int], before: str = "") -> str:
    if not counts:
        return ""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(shown)
    return before + ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _share(value: float | None) -> str:
    if value is None:
        return "none"
    return "100 %" if value == 1 else f"{min(100 * value, 99.999):.3f} %"

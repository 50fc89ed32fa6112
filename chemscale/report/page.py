"""The page: values and figures into one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import errno
import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from chemscale.records.store import Store
from chemscale.report.board import write_figures
from chemscale.report.collect import collect
from chemscale.report.drawings import drawings
from chemscale.report.figures import Figure
from chemscale.report.fitted import Given
from chemscale.report.numbers import bound
from chemscale.report.values import Report

PAGE = "index.html"
EVERY_RUN = "runs.csv"  # beside the page, where its table lists cells
MOST_FORESEEN = 30  # predictions told one by one


def report(
    store: Store | str | Path, laws: Given = None, *, out: str | Path = "report", metrics: Sequence[str] | None = None
) -> Path:
    """Write the report of a store as one self-contained HTML page, whole or not at all, and its laws for TensorBoard.

    Args:
        store: a store, or its folder.
        laws: a law, several, or one per architecture; None fits a Chinchilla law to every architecture.
        out: folder of the page, made where it is missing.
        metrics: columns of RUNS to report on, e.g. ("force_mae", "energy_mae"); None is each run's `law_metric`.

    Returns:
        The path of the page, `out/index.html`; where runs are too many to list, `out/runs.csv` lists them.

    Raises:
        ValueError: the store has no finished run, a metric or a law does not fit it, or `out` cannot be written.
    """
    records = store if isinstance(store, Store) else Store(store)
    found, folder = collect(records, laws, metrics=metrics), Path(out).expanduser()
    if found.every_run:
        write(found.every_run, folder, EVERY_RUN)
    page = write(html(found), folder)
    write_figures(records, found.traced)
    return page


def html(found: Report) -> str:
    """The page of a report, as text."""
    return (
        environment()
        .get_template("page.html")
        .render(
            report=found,
            css=template("page.css"),
            contents=contents(found),
            made=made_now(),
            most_foreseen=MOST_FORESEEN,
            **drawings(found),
        )
    )


def environment() -> Any:
    """The templates of `layout`, with the filters that they use."""
    import jinja2

    made = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FunctionLoader(template),
    )  # fmt: skip
    filters = {"svg": _svg_link, "csv": _csv_link, "told": _told, "lead": _lead, "named": _named, "bound": bound}
    made.filters.update(filters)
    return made


def made_now() -> str:
    """When a page is made."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def contents(found: Report) -> list[tuple[str, str]]:
    """(anchor, words) of the sections that are there."""
    listed: list[tuple[str, str, Any]] = [
        ("tenfold", "Ten times more", True),
        ("brief", "What follows", found.brief),
        ("plots", "Runs", any(section.varies for section in found.sections)),
        ("comparison", "Architectures", found.comparisons),
        ("frontier", "Budgets", found.frontiers),
        ("plan", "Plan", found.plans),
        ("labels", "Labels", found.plans),
        ("laws", "Laws", True),
        ("residuals", "Residuals", found.residuals),
        ("backtests", "Backtests", found.backtests),
        ("breaks", "Breaks", found.breaks),
        ("verdict", "Limits", True),
        ("audit", "Audit", found.audit.claims),
        ("curves", "Learning curves", found.curves),
        ("searches", "Searches", found.searches),
        ("quality", "Loss and quality", found.quality),
        ("hold", "Something to hold", True),
        ("runs", "Records", True),
    ]
    return [(anchor, words) for anchor, words, there in listed if there]


def write(text: str, folder: Path, name: str = PAGE) -> Path:
    """Write a page under a temporary name, then rename it; a failure leaves neither a part nor a new empty folder.

    Raises:
        ValueError: the folder cannot be made or written.
    """
    target, new = folder / name, not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    except OSError as error:
        _leave(folder, new)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise ValueError(f"out={str(folder)!r} cannot be written: {error.strerror}; give another folder.") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(made, 0o644)  # a temporary file is its owner's alone
        os.replace(made, target)
    except BaseException as error:
        Path(made).unlink(missing_ok=True)
        _leave(folder, new)
        if isinstance(error, OSError) and error.errno is not None:  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    return target


def _leave(folder: Path, new: bool) -> None:
    """Take away a folder that was made for a page that failed, unless others have put something there."""
    if new:
        with suppress(OSError):
            folder.rmdir()


def template(name: str) -> str:
    """A file of `layout`."""
    return (files("chemscale.report") / "layout" / name).read_text(encoding="utf-8")


def _told(sentence: str) -> Markup:
    """A sentence without a break between a number and its sign; 2^3 has its power raised."""
    text = re.sub(r"(?<=[\d±×]) (?=[%×±\d])", "\N{NO-BREAK SPACE}", str(escape(sentence)))
    return Markup(re.sub(r"\^(-?[\d.]*\d)", r"<sup>\1</sup>", text))


def _named(sentence: str) -> Markup:
    """A sentence of which the name before its colon stands out."""
    return Markup(re.sub(r"^([A-Z\d][\w(). ×,\xa0-]{1,60}):", r"<b>\1:</b>", str(_told(sentence))))


def _lead(sentence: str) -> Markup:
    """A headline with its from-to in bold and its brackets soft."""
    text = str(_told(sentence))
    text = re.sub(r"from ([\d.,]+) to ([\d.,]*\d)", r"from <b>\1</b> to <b>\2</b>", text)
    return Markup(re.sub(r"(\([^()]*\))", r'<span class="soft">\1</span>', text))


def _svg_link(figure: Figure) -> str:
    """The figure as a file of its own, in a link."""
    alone = figure.svg.replace("<svg", '<svg width="720"', 1)
    return "data:image/svg+xml;base64," + base64.b64encode(alone.encode()).decode()


def _csv_link(figure: Figure) -> str:
    return "data:text/csv;base64," + base64.b64encode(figure.csv.encode()).decode()

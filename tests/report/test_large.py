"""A page does not grow with the number of runs: what it leaves out it says, and a file beside it holds every run."""

import csv

import pytest

from chemscale.audit import subject, thinning
from chemscale.report import fitted, listing, page, searches
from chemscale.report.values import page as values
from tests.benchmarks.report_large import build
from tests.report.planted import SCHNET

RUNS = 200  # of the smaller store; the other has three times as many
BOUNDS = (
    (thinning, "MOST", 64), (listing, "MOST", 50), (values, "MOST_DOTS", 40), (searches, "MOST_RUNS", 12),
    (searches, "MOST", 1), (fitted, "BOOTSTRAP", 60), (subject, "BOOTSTRAP", 60),
)  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    made = []
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in BOUNDS:
            patch.setattr(module, name, value)
        for runs in (RUNS, 3 * RUNS):
            folder = tmp_path_factory.mktemp("large")
            build(folder / "store", runs, 3, (SCHNET,))
            made.append(page.report(folder / "store", out=folder / "page"))
    return made


@pytest.mark.slow
def test_three_times_the_runs_make_no_longer_page(pages):
    small, large = (path.stat().st_size for path in pages)
    assert large < 1.1 * small  # the numbers in it have more digits


@pytest.mark.slow
def test_the_page_says_what_it_leaves_out_and_all_runs_lie_beside_it(pages):
    text = pages[1].read_text()
    assert f"64 of {3 * RUNS // 2 + 6} runs" in text and "stand for all" in text and "largest of" in text
    with (pages[1].parent / page.EVERY_RUN).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["run_id"] for row in rows}) == len(rows) == 3 * RUNS

"""The page: one file, nothing fetched, everything escaped, every figure with its data."""

import base64
import csv
import errno
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import chemscale as cs
from chemscale.report import figures, page
from chemscale.report.values import Parity
from tests.report.conftest import BAD_REASON

REFERENCES = ("src", "href", "xlink:href", "srcset", "action")
VOID = {"meta", "br", "path", "use", "rect", "circle", "line", "polygon", "ellipse", "stop"}


class Reader(HTMLParser):
    """Collects ids, references and text, and checks that elements close in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.references, self.words, self.scripts = [], [], [], [], 0
        self.figures = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.scripts += tag == "script"
        self.figures += [given["id"]] if tag == "figure" and "id" in given else []
        self.ids += [given["id"]] if "id" in given else []
        self.references += [
            (tag, k, v) for k, v in attributes if k in ("src", "href", "xlink:href", "srcset", "action")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag in VOID:
            self.handle_starttag(tag, attributes)
        else:
            self.handle_starttag(tag, attributes)
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def text(found):
    return page.html(found)


@pytest.fixture(scope="module")
def read(text):
    return Reader(text)


def test_nothing_is_fetched(read, text):
    outside = [r for r in read.references if not r[2].startswith(("#", "data:"))]
    assert outside == [("a", "href", "https://doi.org/10.1038/s42256-023-00740-3")]
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_ids_are_unique_and_references_inside_the_page_are_met(read):
    assert len(read.ids) == len(set(read.ids))
    assert {v[1:] for _, _, v in read.references if v.startswith("#")} <= set(read.ids)


def test_the_first_screen_is_in_order(read):
    wanted = [
        "tenfold", "predicted", "brief", "plots", "comparison", "frontier", "plan", "laws", "exponents", "residuals",
        "backtests", "breaks", "verdict", "limits", "audit", "curves", "hold", "runs", "compute",
    ]  # fmt: skip
    assert [i for i in read.ids if i in wanted] == wanted


def test_what_runs_say_is_escaped(read, text):
    assert read.scripts == 1
    assert "<script>alert" not in text
    assert BAD_REASON in "".join(read.words)


def test_every_figure_is_there_with_its_data(read, found):
    slugs = {"chemgpt-nats-per-token", "painn-force-mae", "schnet-force-mae"}
    assert {f"{slug}-{axis}" for slug in slugs for axis in ("data", "params")} <= set(read.ids)
    assert {f"painn-force-mae-curves-{size}" for size in (200, 800, 3200)} <= set(read.ids)
    links = [v for _, k, v in read.references if k == "href" and v.startswith("data:")]
    drawn = sum(i.split("-")[0] in ("chemgpt", "painn", "schnet", "compared") for i in read.figures)
    assert drawn == len(read.figures) >= 2 * len(found.sections) + 2 * len(found.residuals) + 2 * len(found.frontiers)
    assert sum(v.startswith("data:text/csv;base64,") for v in links) == drawn
    assert sum(v.startswith("data:image/svg+xml;base64,") for v in links) == drawn


def test_a_figures_data_are_its_dots(found):
    section = next(s for s in found.sections if s.name == "PaiNN")
    rows = list(csv.DictReader(io.StringIO(figures.scaling(section, "data").csv)))
    measured = [r for r in rows if r["kind"] == "measured"]
    assert len(measured) == len(section.dots) == 13
    assert {float(r["force_mae_meV/angstrom"]) for r in measured} == {float(f"{d.loss:.6g}") for d in section.dots}
    (predicted,) = [r for r in rows if r["kind"] == "predicted"]
    assert float(predicted["low"]) < float(predicted["force_mae_meV/angstrom"]) < float(predicted["high"])


@pytest.mark.parametrize(("share", "words"), [(0.8, "label noise"), (0.001, "off the scale")])
def test_label_noise_is_drawn_near_or_far(found, share, words):
    section = next(s for s in found.sections if s.name == "PaiNN")
    lowest = min(dot.loss for dot in section.dots)
    assert words in figures.scaling(replace(section, noise=share * lowest), "params").svg
    assert "label noise" not in figures.scaling(section, "params").svg


def test_a_saved_drawing_stands_alone(text):
    from xml.etree import ElementTree

    link = re.search(r'download="painn-force-mae-data.svg" href="data:image/svg\+xml;base64,([^"]+)"', text)
    root = ElementTree.fromstring(base64.b64decode(link.group(1)))
    assert root.tag.endswith("svg")
    assert root.get("viewBox")


@pytest.mark.parametrize("count", [30, 2_000])
def test_parity_is_drawn_for_few_and_many(count):
    pairs = tuple((i / count, i / count + 0.01) for i in range(count))
    shown = Parity("painn", "PaiNN", "", pairs, pairs)
    drawn = figures.parity(shown, "forces")
    assert f"{count:,} force components" in drawn.caption
    assert drawn.csv.splitlines()[0] == "label_eV_per_angstrom,predicted_eV_per_angstrom"


def test_the_room_answers_and_writes_whole(store, tmp_path, monkeypatch):
    path = cs.report(store, out=tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "index.html"
    before = path.read_text()
    assert before.rstrip().endswith("</html>")

    def broken(*args, **more):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        page.write("half", path.parent)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        page.write("text", tmp_path / "file" / "below")


@pytest.mark.slow
def test_laws_of_other_forms_have_a_page(store):
    from chemscale.laws import fit
    from chemscale.report.collect import collect
    from tests.report.planted import rows_of

    rows = [row for row in rows_of(store) if row["architecture"] == "chemgpt"]
    line = fit(rows, form="power", data="molecules", loss="nats_per_token", bootstrap=50)
    found = collect(store, {"chemgpt": line})
    text = page.html(found)
    assert found.frontiers == () and found.plans == ()
    assert '<section id="frontier">' not in text
    assert "break of the power law along molecules" in text  # all model sizes as one line
    mixed = fit(rows, form="auto", loss="nats_per_token", bootstrap=50)
    assert "ensemble (led by" in page.html(collect(store, {"chemgpt": mixed}))


@pytest.mark.slow
def test_a_store_without_flops_has_neither_frontier_nor_plan(store, monkeypatch):
    import pyarrow as pa

    from chemscale.records import Store
    from chemscale.report.collect import collect

    rows = store.runs()
    bare = rows.set_column(rows.column_names.index("flops"), "flops", pa.nulls(len(rows), pa.float64()))
    monkeypatch.setattr(Store, "runs", lambda self, **where: bare)
    text = page.html(collect(store))
    assert '<section id="frontier">' not in text and '<section id="plan">' not in text
    assert '<section id="residuals">' in text


@pytest.mark.parametrize("step", ["mkstemp", "replace"])
def test_a_page_on_a_full_disk_leaves_no_empty_folder(tmp_path, monkeypatch, step):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page.tempfile if step == "mkstemp" else page.os, step, full)
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (tmp_path / "new", kept):
        with pytest.raises(OSError, match="No space left") as raised:
            page.write("text", folder)
        assert raised.value.filename == str(folder / page.PAGE)
    assert [one.name for one in tmp_path.iterdir()] == ["kept"] and not list(kept.iterdir())

"""The page's figures by hand, as a notebook shows them."""

from xml.etree import ElementTree

import pytest

from chemscale.report import figures


def drawn(found):
    """Every figure that a full report has, by name."""
    return {
        "scaling": figures.scaling(found.sections[0], "params"),
        "law": figures.law(found.traced[0]),
        "residuals": figures.residuals(found.residuals[0], "params"),
        "backtest": figures.backtest(found.backtests[0]),
        "frontier": figures.frontier(found.frontiers[0]),
        "best_sizes": figures.best_sizes(found.frontiers[0]),
        "paired": figures.paired(found.comparisons[0]),
        "differences": figures.differences(found.comparisons[0]),
        "learning": figures.learning(found.curves[0])[0],
    }


@pytest.fixture(scope="module")
def shown(found):
    return drawn(found)


def test_each_is_one_light_vector_drawing_with_its_data(shown):
    for name, figure in shown.items():
        root = ElementTree.fromstring(figure._repr_svg_())
        assert root.tag.endswith("svg"), name
        assert len(figure.svg) < 40_000, name
        assert len(figure.csv.splitlines()) > 1, name


def test_all_that_is_drawn_refers_to_its_own_ids(shown):
    for figure in shown.values():
        ids, uses = set(), set()
        for node in ElementTree.fromstring(figure.svg).iter():
            ids |= {node.get("id")} - {None}
            uses |= {v[1:] for k, v in node.attrib.items() if k.endswith("href")}
            uses |= {v[5:-1] for v in node.attrib.values() if v.startswith("url(#")}
        assert uses == ids
        assert all(name.startswith(figure.slug) for name in ids)


def test_words_are_text_in_the_pages_font_and_not_outlines(shown):
    for figure in shown.values():
        texts = [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.tag.endswith("text")]
        assert figure.title in texts

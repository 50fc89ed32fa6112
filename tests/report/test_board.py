"""The figures of laws that TensorBoard shows: drawn from the law, on the runs, read back as images."""

import io

import pytest

import chemscale as cs
from chemscale.audit.groups import groups_of
from chemscale.records import Store
from chemscale.report.board import show_laws
from chemscale.report.collect import section
from chemscale.report.figures.law import png
from chemscale.report.traced import traced
from tests.report.planted import ALL, CHEMGPT, PAINN, plant


def images_of(store, law):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(store.path / "tensorboard" / "laws" / law), size_guidance={"images": 0}).Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_lines_are_the_planted_law_to_ten_times_the_largest_run(found):
    for law in ALL:
        for axis, values in (("data", law.sizes), ("params", law.params)):
            line = next(t for t in found.traced if t.section.name.lower() == law.model.architecture and t.axis == axis)
            assert [trace.level for trace in line.traces] == list(law.params if axis == "data" else law.sizes)
            for trace in line.traces:
                xs = [x for x, *_ in trace.points]
                assert (xs[0], xs[-1]) == (pytest.approx(values[0]), pytest.approx(10 * values[-1]))
                for x, loss, low, high in trace.points:
                    assert low < loss < high
                    planted = law.loss(trace.level, x) if axis == "data" else law.loss(x, trace.level)
                    scale = 1 if law is CHEMGPT else 1000
                    if x <= values[-1]:
                        assert loss == pytest.approx(scale * planted, rel=0.03)


def test_a_report_and_a_sweep_leave_the_figures_beside_the_curves(tmp_path):
    from PIL import Image

    store = Store(tmp_path / "store", create=True)
    assert show_laws(store) == 0
    assert not (store.path / "tensorboard").exists()
    plant(store, CHEMGPT, replicates=False, forecast=False)
    assert show_laws(store) == 2
    cs.report(store, out=tmp_path / "page")
    shown = images_of(store, "chemgpt-nats-per-token")
    assert set(shown) == {"law/against_data", "law/against_params"}
    for (image,) in shown.values():  # the same runs again replace the figure
        assert image.step == len(CHEMGPT.widths) * len(CHEMGPT.sizes)
        assert Image.open(io.BytesIO(image.encoded_image_string)).size == (image.width, image.height)


def test_a_law_of_one_axis_or_of_another_count_is_drawn_as_far_as_it_lies_on_the_runs(store):
    groups = [g for g in groups_of(store.runs().to_pylist()) if g.architecture == "painn"]
    sections = [section(g, (), None) for g in groups]
    largest = [row for row in groups[0].rows if row["params"] == PAINN.params[-1]]
    alone = cs.fit(largest, form="power", data="structures", loss="force_mae", bootstrap=100)
    (line,) = traced(groups, {groups[0].slug: alone}, sections)
    assert (line.axis, [trace.level for trace in line.traces]) == ("data", [None])
    assert png(line)[0].startswith(b"\x89PNG")
    widest = [row for row in groups[0].rows if row["structures"] == PAINN.sizes[-1]]
    other = cs.fit(widest, form="power", params="params_all", loss="force_mae", bootstrap=100)
    assert traced(groups, {groups[0].slug: other}, sections) == ()


def test_a_study_that_grows_has_a_figure_for_each_size(tmp_path):
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, replicates=False, forecast=False)
    show_laws(store)
    plant(store, PAINN, replicates=True, forecast=False)
    show_laws(store)
    assert [image.step for image in images_of(store, "painn-force-mae")["law/against_data"]] == [9, 13]

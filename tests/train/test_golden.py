"""Numbers written down: code that is moved about, or another release of torch, gives the same curves."""

import pytest

from tests.train.runs import run_of, train

CURVES = {  # validation loss, training loss at each point; test loss in the end
    "chemgpt": ([(2.607513, 3.109724), (2.307809, 2.455466), (2.282484, 2.316943)], 2.247979),
    "schnet": ([(0.931008, 0.853151), (0.902323, 0.855865), (0.872131, 0.740841)], 0.959868),
    "painn": ([(0.878561, 0.824110), (0.803724, 0.727204), (0.764764, 0.600431)], 0.792377),
}


@pytest.mark.parametrize("family", CURVES)
def test_curves_are_those_written_down(family, molecules, structures, tmp_path):
    """Tolerance: other processors and releases add up in another order, which micro-batches move by about 1e-5."""
    points, law_loss = CURVES[family]
    store = train(run_of(family, molecules, structures), tmp_path / "store")
    for found, (valid, training) in zip(store.points().to_pylist(), points, strict=True):
        assert found["valid_loss"] == pytest.approx(valid, rel=1e-4)
        assert found["train_loss"] == pytest.approx(training, rel=1e-4)
    assert store.runs()["law_loss"].to_pylist() == [pytest.approx(law_loss, rel=1e-4)]

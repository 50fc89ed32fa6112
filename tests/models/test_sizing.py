"""Potentials found for a budget: counted on the module that is built."""

import pytest

from chemscale.models import cost, sizing
from chemscale.spec import MODELS
from tests.models.batches import ARCHITECTURES, MANIFEST

every_model = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_model
def test_the_width_nearest_to_a_number_of_parameters_is_found(architecture):
    family = MODELS[architecture]
    found = family.sized(params=20_000, depth=2)

    def off(width):
        return abs(cost.parameters(family.sized(width, depth=2).build(MANIFEST))["non_embedding"] / 20_000 - 1)

    assert found == family.sized(found.width, depth=2)
    assert off(found.width) <= 1.05 * min(off(max(found.width - 2, 2)), off(found.width + 2))


@every_model
@pytest.mark.slow
def test_the_width_nearest_to_a_cost_is_found(architecture):
    """As `cost.measure` counts it for one structure of the size that budgets are meant for."""
    found = MODELS[architecture].sized(flops=3e7, depth=2)
    units = {"atoms": [sizing.ATOMS], "pairs": [sizing.PAIRS]}

    def work(module, batch):
        predicted = module(batch)
        (predicted.energy.square().sum() + predicted.forces.square().sum()).backward()

    flops = cost.measure(found, MANIFEST, work).flops(units)[0]
    assert flops == pytest.approx(3e7, rel=0.25)  # widths are even


@every_model
def test_a_size_is_asked_for_in_one_way(architecture):
    family = MODELS[architecture]
    with pytest.raises(ValueError, match="width, params; give one"):
        family.sized(8, params=10_000)
    with pytest.raises(ValueError, match="no size; give one"):
        family.sized()
    with pytest.raises(ValueError, match=r"params=1\) is too small"):
        family.sized(params=1)


@every_model
def test_large_budgets_are_counted_without_numbers(architecture, monkeypatch):
    """A billion parameters would be gigabytes if each candidate were drawn."""
    import torch

    family, made = MODELS[architecture], []
    build = family.build
    monkeypatch.setattr(family, "build", lambda config, manifest: made.append(build(config, manifest)) or made[-1])
    found = family.sized(params=1e9, depth=2)
    assert {p.device for module in made for p in module.parameters()} == {torch.device("meta")}
    assert cost.parameters(made[-1])["non_embedding"] == pytest.approx(1e9, rel=0.01)
    assert found.width > 1000
    with pytest.raises(ValueError, match=r"sized\(params=1e\+16\) is too large: a width of 32,768 has"):
        family.sized(params=1e16, depth=2)

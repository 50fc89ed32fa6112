"""Splines read off a table: against scipy's, against polynomials, and against differences of themselves."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch.testing import assert_close

from chemscale.models.cost import count_flops
from chemscale.models.spline import ORDER, Table, blended

CUTOFF = 5.0


def table_of(function, intervals=20):
    """A table, and the coefficients in it of a function of angstroms."""
    table = Table(intervals, CUTOFF).double()
    return table, table.coefficients(function(table.sites())[:, None])


def read(table, coefficients, distances):
    places, weights = table.places(distances)
    return blended(coefficients, weights, places)


def test_it_is_the_spline_that_scipy_makes_of_the_coefficients():
    table, coefficients = table_of(torch.sin)
    distances = torch.linspace(0, CUTOFF, 301, dtype=torch.float64)
    knots = table.step * np.arange(-5, table.intervals + 6)
    peer = BSpline(knots, coefficients.numpy(), ORDER - 1)
    assert_close(read(table, coefficients, distances), torch.as_tensor(peer(distances.numpy())), rtol=0, atol=1e-13)


@pytest.mark.parametrize("power", range(6))
def test_polynomials_of_degree_five_are_exact_with_their_slopes_up_to_both_ends(power):
    table, coefficients = table_of(lambda r: (r / CUTOFF) ** power)
    distances = torch.linspace(0, CUTOFF, 57, dtype=torch.float64).requires_grad_()
    found = read(table, coefficients, distances)[:, 0]
    (slope,) = torch.autograd.grad(found.sum(), distances, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), distances)
    x = distances.detach() / CUTOFF
    assert_close(found.detach(), x**power, rtol=0, atol=1e-13)
    assert_close(CUTOFF * slope.detach(), power * x ** max(power - 1, 0), rtol=0, atol=1e-11)
    assert_close(CUTOFF**2 * bend, power * (power - 1) * x ** max(power - 2, 0), rtol=0, atol=1e-9)


def test_twice_the_knots_leave_a_sixty_fourth_of_the_error():
    distances = torch.linspace(0, CUTOFF, 1001, dtype=torch.float64)

    def error(intervals):
        found = read(*table_of(lambda r: torch.exp(-((r - 2.0) ** 2)), intervals), distances)[:, 0]
        return (found - torch.exp(-((distances - 2.0) ** 2))).abs().max().item()

    assert error(40) / error(80) == pytest.approx(64, rel=0.15)
    # A wave of length L at steps of h is taken, by (h / L)^6, for both that are the same at knots, and that halfway
    # between have the other sign: 4 (h / L)^6 (Unser 1999). The Gaussian's sixth slope is 120.
    assert error(80) == pytest.approx(4 * 120 * (CUTOFF / 80 / (2 * math.pi)) ** 6, rel=0.15)


def test_what_lies_beyond_the_table_is_finite():
    table, coefficients = table_of(torch.cos)
    assert read(table, coefficients, torch.tensor([7.0, 50.0], dtype=torch.float64)).isfinite().all()
    assert read(table, coefficients, torch.zeros(0, dtype=torch.float64)).shape == (0, 1)


def test_slopes_and_their_slopes_are_differences():
    """Of values at weights and at a table, and of what a second differentiation makes of both."""
    torch.manual_seed(0)
    places, weights = Table(4, CUTOFF).double().places(torch.rand(7, dtype=torch.float64) * CUTOFF)
    table = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    inputs = (table, weights.requires_grad_())
    assert torch.autograd.gradcheck(lambda t, w: blended(t, w, places), inputs)
    assert torch.autograd.gradgradcheck(lambda t, w: blended(t, w, places), inputs)


def test_a_value_costs_a_product_and_a_sum_for_each_row_that_it_is_read_from():
    places, weights = Table(4, CUTOFF).places(torch.tensor([0.3, 1.0, 4.9]))
    assert count_flops(lambda: blended(torch.zeros(9, 7), weights, places)).matrix == 2 * 3 * ORDER * 7

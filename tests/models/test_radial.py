"""Bases and cutoff functions have the properties that their papers state."""

import math

import pytest
import torch
from torch.testing import assert_close

from chemscale.models.radial import Bessel, Gaussian, cosine_cutoff, polynomial_cutoff

CUTOFF = 5.0


def test_bessel_functions_are_orthonormal():
    """Under the weight d^2 on [0, c], by the trapezoidal rule, which is exact for products of these sines."""
    d = torch.linspace(0, CUTOFF, 4001, dtype=torch.float64)[1:]
    values = Bessel(6, CUTOFF).double()(d) * d[:, None]  # (points, 6)
    assert_close(values.T @ values * CUTOFF / 4000, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-5)


def test_gaussians_are_one_at_their_centres_and_as_wide_as_they_are_apart():
    gaussian = Gaussian(11, CUTOFF)
    values = gaussian(gaussian.centres)
    assert_close(values.diagonal(), torch.ones(11))
    assert_close(values.diagonal(1), torch.full((10,), math.exp(-0.5)), rtol=1e-5, atol=0)


def test_no_gaussian_and_no_slope_of_one_is_a_subnormal_number():
    """Subnormal numbers make processors a hundred times slower."""
    d = torch.linspace(0.5, CUTOFF, 5000).requires_grad_()
    values = Gaussian(25, CUTOFF)(d)
    (slope,) = torch.autograd.grad(values.sum(), d)
    for numbers in (values.detach(), slope):
        assert ((numbers == 0) | (numbers.abs() > 1e-30)).all()


@pytest.mark.parametrize("cutoff", [cosine_cutoff, polynomial_cutoff])
def test_cutoffs_fall_from_one_to_zero_with_a_level_end(cutoff):
    d = torch.linspace(0, 1.5 * CUTOFF, 301, dtype=torch.float64).requires_grad_()
    values = cutoff(d, CUTOFF)
    (slope,) = torch.autograd.grad(values.sum(), d)
    inside = d < CUTOFF
    assert values[0].item() == 1.0
    assert (values[inside] > 0).all()
    assert (slope <= 1e-12).all()
    assert (values[~inside].abs() < 1e-12).all()
    assert (slope[~inside].abs() < 1e-12).all()

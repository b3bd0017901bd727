"""Contours and fits by resolvents against the functions that they stand for."""

import numpy as np
import pytest
import torch

from sklearn_gflow.geometry.resolvents import FIT_NODES, contour, ridge_fit, window

LIKE = torch.empty(0, dtype=torch.float64)
LAMBDA = torch.cat([torch.zeros(1), torch.logspace(-7, 6, 1234)]).double()


@pytest.mark.parametrize("time", [1e-3, 0.3, 1.0, 7.9, 8.0, 1e4])
def test_contour_inverts_the_transform_of_a_decay(time):
    s, weights = contour(window(time), 34, LIKE)
    found = ((torch.exp(s * time) * weights)[:, None] / (s[:, None] + LAMBDA)).sum(0).real
    torch.testing.assert_close(found, torch.exp(-time * LAMBDA), rtol=0, atol=1e-10)


def test_contour_converges_at_the_stated_rate():
    errors = []
    for nodes in (8, 12, 16):
        s, weights = contour(0, nodes, LIKE)
        found = ((torch.exp(2 * s) * weights)[:, None] / (s[:, None] + LAMBDA)).sum(0).real
        errors.append(float((found - torch.exp(-2 * LAMBDA)).abs().max()))
    rate = np.log(errors[0] / errors[-1]) / 8
    assert rate == pytest.approx(2 * np.pi / np.sqrt(65), rel=0.1)


@pytest.mark.parametrize(
    "g",
    [
        lambda lam: 1 - torch.exp(-lam),
        lambda lam: lam / (lam + 0.05),
        lambda lam: 1 - torch.exp(-3 * lam * (0.5 / (lam + 0.08) + 0.5)),
    ],
    ids=["gradient flow", "ridge regression", "damped flow"],
)
@pytest.mark.parametrize("unit", [1e-3, 1.0, 50.0])
def test_fit_by_ridge_regressions(g, unit):
    """Off the grid that it was fitted on, in any unit of λ."""
    first, last = window(0.5 / unit), window(200 / unit)
    w = ridge_fit(lambda lam: g(lam / unit), first, last)
    poles = torch.cat([contour(k, FIT_NODES, LIKE)[0] for k in range(first, last + 1)])
    found = (w * LAMBDA[:, None] / (LAMBDA[:, None] + poles)).sum(1).real
    torch.testing.assert_close(found, g(LAMBDA / unit), rtol=0, atol=1e-9)

import numpy as np
import pytest

from sklearn_gflow.dynamics import s_from_tau, t_from_tau, tau_from_t


def test_values():
    np.testing.assert_allclose(t_from_tau([0, np.log(2), np.inf]), [0, 0.5, 1])
    np.testing.assert_allclose(tau_from_t([0, 0.5, 1]), [0, np.log(2), np.inf])
    np.testing.assert_allclose(s_from_tau([0, 2.0], 7.0), [0, 14])


@pytest.mark.parametrize("t", [1e-18, 1e-9, 0.3, 0.999999])
def test_inverse_to_full_precision(t):
    assert float(t_from_tau(tau_from_t(t))) == pytest.approx(t, rel=1e-12)


def test_end_of_time_warns_of_nothing():
    with np.errstate(all="raise"):
        t_from_tau([0, 800.0, np.inf])
    assert tau_from_t(1.0) == np.inf

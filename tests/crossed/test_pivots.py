import numpy as np
import pytest

from crossed.errors import InputError
from crossed.pivots import sd_multipliers


@pytest.mark.parametrize(
    ("runs", "lower", "upper"), [(3, 0.52, 6.3), (6, 0.62, 2.45), (10, 0.69, 1.8), (20, 0.76, 1.46)]
)
def test_sd_multipliers(runs, lower, upper):
    found = sd_multipliers(runs)
    assert found[0] == pytest.approx(lower, abs=0.005)
    assert found[1] == pytest.approx(upper, abs=0.05 if upper in (6.3, 1.8) else 0.005)


def test_sd_multipliers_of_an_array_narrow_to_one():
    lower, upper = sd_multipliers(np.array([3, 30, 300_000]))
    assert (np.diff(lower) > 0).all()
    assert (np.diff(upper) < 0).all()
    np.testing.assert_allclose([lower[-1], upper[-1]], 1, atol=5e-3)


@pytest.mark.parametrize(
    ("arguments", "message"), [((1,), "at least 2"), (([3, 1],), "at least 2"), ((3, 1.0), "level")]
)
def test_sd_multipliers_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        sd_multipliers(*arguments)

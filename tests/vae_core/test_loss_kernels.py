"""Elementary functions of the compiled loops, against NumPy in double precision."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vae_core import loss_kernels

X = np.concatenate([np.linspace(-40, 40, 1201), [-1e-8, 1e-8, -3e-4, 3e-4]]).astype(np.float32)
Wide = npt.NDArray[np.float64]


@pytest.mark.parametrize(
    ("name", "x", "truth"),
    [
        ("exp", X, np.exp),
        ("tanh", X, np.tanh),
        ("softplus", X, lambda x: np.logaddexp(0, x)),
        ("log", np.exp(X), np.log),
        ("sigmoid", X, lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_functions_are_exact_to_single_precision(
    name: str, x: npt.NDArray[np.float32], truth: Callable[[Wide], Wide]
) -> None:
    """Within four units in the last place, and for logarithms near 0 as close in absolute terms."""
    function = getattr(loss_kernels, name)

    found = np.array([function(value) for value in x], dtype=np.float64)

    np.testing.assert_allclose(
        found, truth(x.astype(np.float64)), rtol=4.8e-7, atol=1.2e-7 if name == "log" else 0
    )


def test_exponentials_stay_finite() -> None:
    """Beyond what single precision holds the exponential stops growing."""
    ends = [loss_kernels.exp(np.float32(x)) for x in (-1e30, 1e30)]

    assert np.isfinite(ends).all()
    assert ends[0] > 0


def test_activations_are_those_of_torch() -> None:
    """SiLU of numbers near and far, none of them infinite after it; what is no number stays none."""
    x = np.concatenate([X, [1e4, -1e4, 1e30, -1e30, np.nan]]).astype(np.float32)
    found = x.copy()

    loss_kernels.bend(found)

    expected = torch.nn.functional.silu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(found, expected, rtol=4.8e-7, atol=1e-7)

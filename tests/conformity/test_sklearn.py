"""scikit-learn's own checks of an estimator."""

from collections.abc import Callable

import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_core import VAEDetector

torch.set_num_threads(1)


@parametrize_with_checks([VAEDetector(random_state=0, max_epochs=3)])
def test_detector_passes_each_check(estimator: VAEDetector, check: Callable[[VAEDetector], None]) -> None:
    """Each of scikit-learn's estimator checks passes."""
    assert check(estimator) is None

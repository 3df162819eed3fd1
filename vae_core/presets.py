"""What a detector does unless an argument says otherwise: our recipe, and the textbook's."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """Values of the arguments that are left open, and what no argument changes."""

    n_members: int
    """Autoencoders trained and scored side by side."""
    masking: float
    """Probability that a nullable or categorical input cell is hidden while training."""
    warm_up: float
    """Share of the steps over which beta grows from 0."""
    beta: float | None
    """Weight of the divergence; None chooses by the kinds of the columns."""
    learning_rate: float
    """Of Adam."""
    variance_weight: float
    """Power of the decoder's variance that weighs the losses of numbers in training."""
    unit_variance: bool
    """Whether the decoder's variance of numbers is 1 instead of learned, unless min_scale is given."""
    training_data: str
    """What the training rows are taken for: clean, contaminated, or auto for either."""
    weighs_news: bool
    """Whether what training never had counts as much as its rarity asks for."""


PRESETS = {
    "default": Preset(
        n_members=8,
        masking=0.2,
        warm_up=0.3,
        beta=None,
        learning_rate=3e-3,
        variance_weight=0.5,
        unit_variance=False,
        training_data="auto",
        weighs_news=True,
    ),
    "textbook": Preset(
        n_members=1,
        masking=0.0,
        warm_up=0.0,
        beta=1.0,
        learning_rate=1e-3,
        variance_weight=0.0,
        unit_variance=True,
        training_data="clean",
        weighs_news=False,
    ),
}
"""``textbook`` is the autoencoder of Kingma & Welling (2014): nothing beyond it."""

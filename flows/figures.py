"""Pictures of a training run and of a night, as PNG files.

Drawn on figures of their own rather than through pyplot: nothing to close, no window, safe in threads.
matplotlib is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loss_curve", "night", "planted_errors", "score_histogram"]

BLUE, RED, GREY, PALE, INK = "#2b6cb0", "#d1440c", "#8a94a0", "#dfe4ea", "#1f2933"
CUT: dict[str, Any] = {"color": RED, "linewidth": 1.2, "linestyle": (0, (4, 3))}  # how a threshold is drawn
WIDTH, HEIGHT, DPI = 9.0, 4.8, 140  # inches, inches, dots an inch
MAX_DOTS = 20_000  # ordinary rows of a night that are drawn; more only thicken the same band

Floats = npt.NDArray[np.floating[Any]]


def loss_curve(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how training went: losses above, divergence and its weight below.

    Parameters
    ----------
    history
        One record an epoch with ``epoch``, ``phase``, ``train_loss``, ``validation_loss``, ``train_kl``
        (nats a row) and ``beta``.
    path
        PNG file to write.
    """
    trimmed = sum(record["phase"] == "trimmed" for record in history)
    said = f"; in the first {trimmed}, members that leave out the worst rows" if trimmed else ""
    figure = _figure("Training", f"epochs: {len(history)}{said}")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    epochs = [record["epoch"] for record in history]
    _line(upper, epochs, history, "train_loss", "training rows", GREY)
    _line(upper, epochs, history, "validation_loss", "held-out rows", BLUE)
    _mark_last(upper, history)
    _tidy(upper, y="loss, nats a row")
    upper.legend(frameon=False, loc="upper right")
    _divergence(lower, epochs, history)
    figure.savefig(path)


def _line(
    axes: Axes, epochs: list[float], history: Sequence[Mapping[str, float]], key: str, label: str, colour: str
) -> None:
    values = [record[key] for record in history]
    axes.plot(epochs, values, color=colour, label=label, linewidth=1.8, marker="o", markersize=3)


def _mark_last(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Ring the epoch that training ended with."""
    last = history[-1]
    at = (last["epoch"], last["validation_loss"])
    axes.plot(*at, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=RED, markeredgewidth=1.6)
    text = f"{last['validation_loss']:.3g} at the end"
    axes.annotate(text, at, xytext=(0, 14), textcoords="offset points", color=RED, ha="right")


def _divergence(axes: Axes, epochs: list[float], history: Sequence[Mapping[str, float]]) -> None:
    """KL divergence, and on an axis of its own at the right its weight."""
    from matplotlib.ticker import MaxNLocator

    _line(axes, epochs, history, "train_kl", "KL divergence", INK)
    _tidy(axes, x="epoch", y="KL, nats a row")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    weight = axes.twinx()
    weight.fill_between(epochs, [record["beta"] for record in history], color=PALE, step="mid", zorder=0)
    _tidy(weight, y="beta (shaded)")
    weight.grid(visible=False)
    weight.set_ylim(bottom=0)
    axes.set_zorder(weight.get_zorder() + 1)
    axes.patch.set_visible(False)


def score_histogram(scores: Floats, threshold: float, path: Path) -> None:
    """Draw how the scores of held-out rows are spread, and where the cut lies.

    Parameters
    ----------
    scores
        Anomaly scores [n], higher is more anomalous.
    threshold
        Scores above it are anomalies.
    path
        PNG file to write.
    """
    beyond = int((scores > threshold).sum())
    share = beyond / max(len(scores), 1)
    figure = _figure(
        "Anomaly scores", f"{beyond:,} of {len(scores):,} rows ({share:.2%}) lie beyond the threshold"
    )
    axes = figure.subplots()
    finite = scores[np.isfinite(scores)]
    parts = [finite[finite <= threshold], finite[finite > threshold]]
    axes.hist(parts, bins=80, stacked=True, color=[BLUE, RED])
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    _cut(axes, threshold)
    _tidy(axes, x="anomaly score (higher is more anomalous)", y="rows (logarithmic)")
    figure.savefig(path)


def night(scores: Floats, threshold: float, path: Path, *, title: str, names: Mapping[int, str]) -> None:
    """Draw a night: every row at its place in the batch and with its score; the anomalous ones stand out.

    Parameters
    ----------
    scores
        Anomaly scores [n] in the order of the rows, higher is more anomalous.
    threshold
        Scores above it are drawn as anomalies.
    path
        PNG file to write.
    title
        Of the picture, such as the pipeline's name and the date.
    names
        Row number, from 0 -> short text to write beside that row.
    """
    flagged = np.flatnonzero(scores > threshold)
    ordinary = np.flatnonzero(scores <= threshold)
    step = len(ordinary) // MAX_DOTS + 1
    drawn = ordinary[::step]
    thinned = f"; one ordinary row in {step} is drawn" if step > 1 else ""
    told = f"{len(scores):,} rows, {len(flagged):,} above the threshold {threshold:.3g}{thinned}"
    figure = _figure(title, told)
    axes = figure.subplots()
    axes.scatter(drawn, scores[drawn], s=5, color=GREY, alpha=0.5, linewidths=0)
    axes.scatter(flagged, scores[flagged], s=26, color=RED, zorder=3)
    axes.axhline(threshold, **CUT)
    _write_names(axes, scores, names)
    _tidy(axes, x="row of the batch", y="anomaly score (higher is more anomalous)")
    figure.savefig(path)


def _write_names(axes: Axes, scores: Floats, names: Mapping[int, str]) -> None:
    """Write names in a column at the right, worst first, each tied to its dot."""
    for place, row in enumerate(sorted(names, key=lambda row: -scores[row])):
        axes.annotate(
            names[row],
            (row, scores[row]),
            xytext=(1.02, 0.97 - 0.075 * place),
            textcoords="axes fraction",
            va="center",
            color=INK,
            fontsize=8.5,
            arrowprops={
                "arrowstyle": "-",
                "color": RED,
                "alpha": 0.35,
                "linewidth": 0.8,
                "relpos": (0.0, 0.5),  # from the label's left edge: a line must not cut through other labels
            },
        )


def planted_errors(
    shares: Mapping[str, Mapping[str, float]], path: Path, *, planted: int, flagged: float
) -> None:
    """Draw which share of planted errors each method finds, a group of bars for each kind.

    Parameters
    ----------
    shares
        Kind -> method -> share found, 0 to 1; the first method is ours.
    path
        PNG file to write.
    planted
        Number of planted errors.
    flagged
        Share of clean rows that each method flags.
    """
    subtitle = f"{planted:,} planted errors; each method flags {flagged:.2%} of clean rows"
    figure = _figure("Planted errors found", subtitle)
    axes = figure.subplots()
    kinds, methods = list(shares), list(next(iter(shares.values()), {}))
    height = 0.8 / max(len(methods), 1)
    for i, (method, colour) in enumerate(zip(methods, (BLUE, GREY, INK), strict=False)):
        places = np.arange(len(kinds)) + (i - (len(methods) - 1) / 2) * height
        axes.barh(places, [shares[kind][method] for kind in kinds], height, color=colour, label=method)
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    _tidy(axes)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="upper right", ncols=3)
    figure.savefig(path)


def _figure(title: str, subtitle: str) -> Figure:
    """Make an empty figure with its headline."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    figure.supxlabel(subtitle, x=0.01, ha="left", color=GREY, fontsize=9)
    return figure


def _cut(axes: Axes, threshold: float) -> None:
    """Draw the threshold across the axes and write its value at it."""
    axes.axvline(threshold, **CUT)
    text = f" threshold {threshold:.3g}"
    axes.text(threshold, 0.97, text, color=RED, va="top", transform=axes.get_xaxis_transform())


def _tidy(axes: Axes, *, x: str = "", y: str = "") -> None:
    """Label axes and take away what carries no information."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)

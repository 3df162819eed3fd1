"""Charts of a monitored night as SVG, to stand within a page; text stays text.

Evidently was weighed and left: its reports compare two tables of raw rows, and we keep none of the training
rows; it brings 28 packages. matplotlib is here already, and is imported on first use.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flows.figures import BLUE, GREY, INK, PALE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST", "drift", "power", "scores", "shares", "volume"]

WIDTH, ROW, HEAD = 8.6, 0.26, 0.9  # inches
MOST = 40  # columns that a chart shows
NIGHTS = 14  # that there is room for at least
AMBER = "#d99a06"
COLOURS = {"ok": BLUE, "watch": AMBER, "drift": RED}

Floats = npt.NDArray[np.floating[Any]]


def drift(columns: Sequence[tuple[str, float, str]], limits: tuple[float, float]) -> str:
    """Bars of the stability index, the farthest moved column first.

    Parameters
    ----------
    columns
        Name, index and state of each.
    limits
        Index from which on a column is watched, and has drifted.
    """
    shown = sorted(columns, key=lambda one: -one[1])[:MOST]
    figure, axes = _bars(len(shown))
    colours = [COLOURS.get(state, BLUE) for _, _, state in shown]
    axes.barh(range(len(shown)), [value for _, value, _ in shown], color=colours, height=0.7)
    axes.set_yticks(range(len(shown)), [name for name, _, _ in shown])
    if max((value for _, value, _ in shown), default=0.0) > 1:
        axes.set_xscale("symlog", linthresh=1)
    for limit in limits:
        axes.axvline(limit, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    _label(axes, x="population stability index (logarithmic from 1 on)")
    return _svg(figure)


def scores(usual: Floats, night: Floats, cut: float) -> str:
    """Spread of the night's scores over that of the calibration rows, each as a share of its rows."""
    figure = _figure(2.9)
    axes = figure.subplots()
    finite = [one[np.isfinite(one)] for one in (usual, night)]
    low, high = np.quantile(np.concatenate(finite), (0.0, 0.999))
    edges = np.linspace(low, max(high, cut, low + 1e-9), 61)
    for values, colour, label in zip(finite, (GREY, BLUE), ("calibration rows", "this night"), strict=True):
        share = np.histogram(values, edges)[0] / max(len(values), 1)
        axes.stairs(share, edges, color=colour, label=label, linewidth=1.6, fill=colour == GREY, alpha=0.8)
    axes.axvline(cut, color=RED, linewidth=1.2, linestyle=(0, (4, 3)), label="threshold")
    axes.legend(frameon=False)
    _label(axes, x="anomaly score", y="share of rows")
    return _svg(figure)


def shares(columns: Sequence[tuple[str, float, float]]) -> str:
    """Dots of a share beside the usual one, the greatest change first.

    Parameters
    ----------
    columns
        Name, usual share and the night's.
    """
    shown = sorted(columns, key=lambda one: -abs(one[2] - one[1]))[:MOST]
    figure, axes = _bars(len(shown))
    places = np.arange(len(shown))
    usual, now = np.array([one[1] for one in shown]), np.array([one[2] for one in shown])
    axes.hlines(places, usual, now, color=PALE, linewidth=3)
    axes.scatter(usual, places, color=GREY, s=26, label="training rows", zorder=3)
    axes.scatter(now, places, color=BLUE, s=26, label="this night", zorder=3)
    axes.set_yticks(places, [name for name, _, _ in shown])
    axes.xaxis.set_major_formatter(_percent)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    _label(axes)
    return _svg(figure)


def volume(dates: Sequence[str], rows: Sequence[int], flagged: Sequence[float]) -> str:
    """Rows of the last nights as bars, and below them the share that was flagged; this night is the last."""
    figure = _figure(3.4)
    upper, lower = figure.subplots(2, 1, sharex=True)
    colours = [GREY] * (len(rows) - 1) + [BLUE]
    upper.bar(range(len(rows)), rows, color=colours)
    lower.bar(range(len(rows)), flagged, color=colours)
    lower.yaxis.set_major_formatter(_percent)
    lower.set_xlim(min(0, len(dates) - NIGHTS) - 0.5, len(dates) - 0.5)
    ticks = sorted({0, len(dates) // 2, len(dates) - 1})
    lower.set_xticks(ticks, [dates[i] for i in ticks])
    _label(upper, y="rows")
    _label(lower, y="flagged")
    return _svg(figure)


def power(kinds: Sequence[str], columns: Sequence[str], found: Floats) -> str:
    """A field a kind of planted error and column, the darker the more are found; blank where none fits.

    Parameters
    ----------
    kinds, columns
        Names [k] and [c].
    found
        Share found [c, k], NaN where nothing could be planted.
    """
    figure, axes = _bars(len(columns), extra=1.1)
    axes.imshow(found, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(~np.isnan(found)), strict=True):
        dark = found[row, column] > 0.6
        said = f"{found[row, column]:.0%}"
        axes.text(column, row, said, ha="center", va="center", fontsize=7, color="white" if dark else INK)
    axes.set_yticks(range(len(columns)), columns)
    axes.set_xticks(range(len(kinds)), [one.replace("_", " ") for one in kinds], rotation=35, ha="right")
    _label(axes)
    axes.grid(visible=False)
    return _svg(figure)


def _percent(share: float, _: float) -> str:
    return f"{100 * share:.3g} %"


def _bars(rows: int, extra: float = 0.0) -> tuple[Figure, Axes]:
    figure = _figure(HEAD + extra + ROW * max(rows, 1))
    axes = figure.subplots()
    axes.invert_yaxis()
    return figure, axes


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _label(axes: Axes, *, x: str = "", y: str = "") -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=8)
    axes.grid(axis="x", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    """A picture as an element of a page; the same picture is the same text."""
    from matplotlib import rc_context

    sink = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vaewatch"}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    return text[text.index("<svg") :]

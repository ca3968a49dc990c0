"""How the plots of searches and studies look: one style, colours for the colour-blind too, one writer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from training.report import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Okabe and Ito 2008, without yellow, which is too pale for lines. Each colour has a line style of its own, so
# that a grey print can be read too.
LINES: Final[tuple[dict[str, Any], ...]] = (
    {"color": "#0072B2", "linestyle": "-"},
    {"color": "#D55E00", "linestyle": "--"},
    {"color": "#009E73", "linestyle": "-."},
    {"color": "#CC79A7", "linestyle": (0, (6, 1, 1, 1, 1, 1))},
    {"color": "#E69F00", "linestyle": (0, (3, 1))},
    {"color": "#000000", "linestyle": ":"},
    {"color": "#56B4E9", "linestyle": "-"},
    {"color": "#8a8f98", "linestyle": "--"},
)
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
AMBER: Final = "#E69F00"
GREY: Final = "#8a8f98"
BLACK: Final = "#222222"


@contextlib.contextmanager
def sheet(
    path: Path, title: str, size: tuple[float, float], shape: tuple[int, int], *, share: bool = False
) -> Iterator[NDArray[Any]]:
    """Yield axes of a shape (rows, columns) to draw on, and write them to `path` as PNG; `size` is in inches.

    With `share` all panels have the same vertical axis, labelled in each.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, fontsize=12)
        axes = figure.subplots(*shape, squeeze=False, sharey=share)
        for panel in axes.flat:
            panel.yaxis.set_tick_params(which="both", labelleft=True)
        yield axes
        temporary = path.with_suffix(".tmp")
        figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(path)


def label_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)


def logarithmic_y(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with ticks at 1, 2 and 5 that are written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def group_thousands(axes: Axes) -> None:
    """Write the numbers of the horizontal axis as 20,000."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def hide_unused(axes: NDArray[Any], used: int) -> None:
    """Blank the axes that come after the first `used` ones."""
    for spare in axes.flat[used:]:
        spare.set_axis_off()

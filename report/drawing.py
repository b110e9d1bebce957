"""Figures that fit a light page, a dark page, a phone and a paper.

A figure is drawn once by matplotlib. In the report it is inline SVG whose ink follows the page's
colour scheme; for papers it is PNG, PDF and SVG on white.
"""

import contextlib
import dataclasses
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..support.choices import FORMATS

# Okabe and Ito's colour-blind safe palette (2008), without the yellow that white paper swallows;
# each is also told apart by its marker.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_INK, _FAINT = "#010203", "#040506"  # black on paper; in the page they become its colours
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _INK,
    "axes.titlecolor": _INK,
    "grid.color": _FAINT,
    "legend.labelcolor": _INK,
}
SIZE = (5.2, 3.4)  # inches: readable when 360 pixels wide
FORMATS.update(  # name: canvas, and what it is told for a file
    png=(FigureCanvasAgg, {"dpi": 200}),
    pdf=(FigureCanvasPdf, {"metadata": {"CreationDate": None}}),
    svg=(FigureCanvasSVG, {"metadata": {"Date": None}}),
)


@dataclasses.dataclass
class Drawing:
    """A finished figure.

    Attributes:
        name: file name without ending.
        title: in a few words.
        alt: what it shows, for readers who cannot see it.
        svg: inline markup.
    """

    name: str
    title: str
    alt: str
    figure: Figure

    @property
    def svg(self) -> str:
        """Markup for the inside of a page: no header, ids of its own, colours of the page."""
        out = io.StringIO()
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            FigureCanvasSVG(self.figure).print_svg(out, metadata={"Date": None})
        text = out.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        text = re.sub(r"font: ([^;']*?)'[^']*'[^;\"]*", r"font: \1system-ui, sans-serif", text)
        text = re.sub(r'(id="|url\(#|href="#)', rf"\1{self.name}-", text)
        for color, name in ((_INK, "ink"), (_FAINT, "faint"), (COLORS[0].lower(), "blue")):
            text = text.replace(color, f"var(--{name})")
        label = html.escape(f"{self.title}. {self.alt}", quote=True)
        return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)

    def save(self, folder: Path, endings: Sequence[str] = tuple(FORMATS)) -> list[Path]:
        """Write the figure on white for a paper, in each format; returns the paths.

        Nothing in the files depends on the time or the machine: the same figure, the same bytes.
        """
        if not endings:
            return []
        for line in self.figure.findobj(Line2D):
            if line.get_color() == _FAINT:
                line.set_color("#dfe4ea")
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name, "pdf.fonttype": 42}):
            FigureCanvasAgg(self.figure)
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")  # once for all formats: it takes the most time
            paths = [folder / f"{self.name}.{FORMATS.check(ending)}" for ending in endings]
            for path, ending in zip(paths, endings, strict=True):
                canvas, options = FORMATS[ending]
                canvas(self.figure).print_figure(path, facecolor="white", **options)
        return paths


def new_figure(title: str, xlabel: str, ylabel: str, size: tuple[float, float] = SIZE):
    """(figure, axes) with a title and named axes."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
    return figure, axes


def new_panels(
    title: str,
    rows: int,
    columns: int,
    size: tuple[float, float],
    layout: str | None = "constrained",
    **more,
):
    """(figure, axes [rows, columns]) with one title above all panels."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout=layout)
        axes = figure.subplots(rows, columns, squeeze=False, **more)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure, axes


def legend_below(figure: Figure, handles, labels, title: str | None = None) -> None:
    """A legend under the axes, where it hides no data; long names in one column."""
    columns = 2 if max(map(len, labels)) <= 30 and len(labels) > 1 else 1
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, title=title, alignment="left"
    )
    figure.set_size_inches(
        SIZE[0], SIZE[1] + 0.19 * -(-len(labels) // columns) + (0.2 if title else 0)
    )


@contextlib.contextmanager
def style():
    """The style of all figures while the context lasts."""
    with matplotlib.rc_context(_STYLE):
        yield

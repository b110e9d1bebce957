"""Records and observations to a page: figures, tables, words."""

from .frontier_figures import fits_figure, frontier_figure
from .page import write_report

__all__ = ["fits_figure", "frontier_figure", "write_report"]

"""Records and observations to a page: figures, tables, words."""

from .page import write_report

__all__ = ["write_report"]

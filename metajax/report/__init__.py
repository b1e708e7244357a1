"""Reports of a run, a comparison or a simulation: HTML pages, curves, tables for a terminal."""

from metajax.report.days import days_page, days_table
from metajax.report.page import html, support_size_curve, terminal_table
from metajax.report.tables import percent, weight_lines

__all__ = [
    "days_page",
    "days_table",
    "html",
    "percent",
    "support_size_curve",
    "terminal_table",
    "weight_lines",
]

"""Reports of runs, comparisons, simulations and searches: HTML pages, curves, tables."""

from metajax.report.days import days_page, days_table
from metajax.report.page import html, support_size_curve, terminal_table
from metajax.report.study import study_page
from metajax.report.tables import percent, weight_lines

__all__ = [
    "days_page",
    "days_table",
    "html",
    "percent",
    "study_page",
    "support_size_curve",
    "terminal_table",
    "weight_lines",
]

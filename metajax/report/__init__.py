"""Reports of a run or a comparison: HTML page, curves, tables for a terminal."""

from metajax.report.page import html, support_size_curve, terminal_table
from metajax.report.tables import percent, weight_lines

__all__ = ["html", "percent", "support_size_curve", "terminal_table", "weight_lines"]

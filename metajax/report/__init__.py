"""Reports of a run or a comparison: HTML page, curves, tables for a terminal."""

from metajax.report.page import html, support_size_curve, terminal_table

__all__ = ["html", "support_size_curve", "terminal_table"]

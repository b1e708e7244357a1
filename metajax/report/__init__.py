"""Figures of a run for people: HTML page, curves, terminal tables."""

from metajax.report.page import html, support_size_curve, terminal_table

__all__ = ["html", "support_size_curve", "terminal_table"]

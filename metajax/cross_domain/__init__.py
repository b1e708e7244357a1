"""Recommendation across two domains: data, protocol and methods."""

from metajax.cross_domain.crossing import Crossing, load_domains

__all__ = ["Crossing", "load_domains"]

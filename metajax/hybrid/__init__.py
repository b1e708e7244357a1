"""The hybrid engine: closed forms under two heads, for ratings and for the order of items."""

from metajax.hybrid.engine import BY_ORDER, Fitted, State, hybrid, weights_by_number

__all__ = ["BY_ORDER", "Fitted", "State", "hybrid", "weights_by_number"]

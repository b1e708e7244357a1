"""Weights of a user as a shared value and a low-rank change, exact and cheap."""

__all__ = []

"""Factored inner loop: weights of a user as a shared value and a low-rank change."""

__all__ = []

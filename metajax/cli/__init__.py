"""The command line, one file a command."""

from metajax.cli.app import main

__all__ = ["main"]

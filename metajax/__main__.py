"""The command `metajax`, also `python -m metajax`."""

import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line; names the extra to install where it is missing."""
    if importlib.util.find_spec("cyclopts") is None:
        print(
            "metajax: the command line needs the extra cli: pip install 'metajax[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from metajax import cli

    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()

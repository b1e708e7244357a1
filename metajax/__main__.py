"""The command `metajax`, also `python -m metajax`."""

import importlib.util
import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Runs the command line; names the extra to install where it is missing."""
    # Until the command line has its own: an exception in the middle of the import of a compiled
    # module is lost, or ends the process by a fault.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    if importlib.util.find_spec("cyclopts") is None:
        print(
            "metajax: the command line needs the extra cli: pip install 'metajax[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from metajax import cli

    sys.exit(cli.main(sys.argv[1:]))


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once."""
    del frame
    shown = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""  # No bar any more, but the cursor.
    os.write(2, shown + b"metajax: stopped before there was anything to save.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()

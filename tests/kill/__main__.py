"""Kills training, comparisons, their workers and the making of folders; prints what came of it.

    python -m tests.kill [--times 100] [--seed 0] [--kinds "train,compare"] [--calls 1]

Each scenario is killed once at each call that changes a file (at every n-th with `--calls n`, 0 for
none), and commands are killed at random moments, `--times` in all. After a kill the command is
typed once more: it must come to the same bits as without, leave nothing over, and nothing that the
killed process had started may live on.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Runs the killer; returns 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="kills at random moments, in all")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--kinds", default="", help="of the kills, separated by commas")
    parser.add_argument("--calls", type=int, default=1, help="every n-th call, 0 for none")
    given = parser.parse_args()
    began, wrong = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="metajax-kill-") as place:
        root, data = Path(place), Path(place) / "data"
        # What is compiled once serves all processes. It is complete before the first kill.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PLATFORMS"] = "cpu"
        from tests.kill.at_random import KINDS, killed_at_random
        from tests.kill.scenarios import NAMES, write_data

        data.mkdir()
        write_data(data)
        kinds = [kind.strip() for kind in given.kinds.split(",") if kind.strip()] or list(KINDS)
        names = [name for name in NAMES if name in kinds] if given.calls else []
        for number, name in enumerate(names):
            found = _in_a_fork(name, data, root / f"calls{number}", given.calls)
            print(
                f"{name}: killed at {found['kills']} of {found['calls']} calls that change a "
                f"file; {found['kills'] - len(found['wrong'])} came to the same bits.",
                flush=True,
            )
            wrong += found["wrong"]
        for number, kind in enumerate(kinds):
            times = given.times // len(kinds) + (number < given.times % len(kinds))
            if not times:
                continue
            folder = root / f"random{number}"
            folder.mkdir()
            tally = killed_at_random(kind, times, data, folder, given.seed)
            when = ", ".join(f"{count} {moment}" for moment, count in tally.moments.items())
            print(
                f"{kind}: killed at {tally.kills} random moments of {tally.seconds:.1f} s "
                f"({when}); {tally.kills - len(tally.wrong)} came to the same bits.",
                flush=True,
            )
            wrong += tally.wrong
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} wrong; {time.monotonic() - began:.0f} s.")
    return 1 if wrong else 0


def _in_a_fork(name: str, data: Path, root: Path, step: int) -> dict:
    """Kills at calls in a fork, since this process may not start JAX before it forks others."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        with os.fdopen(reader) as file:
            text = file.read()
        os.waitpid(pid, 0)
        return json.loads(text)
    try:
        from tests.kill.at_each_call import killed_at
        from tests.kill.scenarios import scenarios

        root.mkdir()
        (scenario,) = [one for one in scenarios(data) if one.name == name]
        with os.fdopen(writer, "w") as file:
            json.dump(killed_at(scenario, root, slice(None, None, step))._asdict(), file)
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

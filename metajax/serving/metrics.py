"""Counters and histograms of a service, in the text format of Prometheus.

Each of several workers leaves its counts in a file of a folder that they share, and whichever is
asked adds them up: those of the others are at most a second old. The counts of a worker that has
ended stay, so that sums never fall.
"""

import contextlib
import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Metrics"]

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper ends of the buckets of latency, in seconds."""

_FRESH = 5.0
"""Seconds after which the present values of a worker are none any more."""

MINUTES = 60
"""Minutes of which the numbers of events are kept."""

_Counts = dict[str, Counter[tuple[Any, ...]]]


class Metrics:
    """Counts since the start; its methods may be called from any thread.

    Args:
        clock: Seconds that only rise, the same ones in all processes.
        folder: Where the workers of a service leave their counts; None: there is one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, folder: Path | None = None):
        self._clock, self._folder = clock, folder
        self.lag = 0.0
        """Seconds by which the event loop came late when it was last looked at."""
        self._lock = threading.Lock()
        self._counts: _Counts = defaultdict(Counter)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            method: Of HTTP.
            path: Pattern of its route, which holds no ids.
            status: Of the answer.
            seconds: Time until the answer.
        """
        place = next((n for n, bound in enumerate(_BOUNDS) if seconds <= bound), len(_BOUNDS))
        with self._lock:
            self._counts["requests"][method, path, status] += 1
            self._counts["buckets"][path, place] += 1
            self._counts["seconds"][path,] += seconds  # type: ignore[assignment]

    def events(self, **numbers: int) -> None:
        """Counts events by their fate."""
        minute = int(self._clock() // 60)
        with self._lock:
            for fate, number in numbers.items():
                self._counts["events"][fate,] += number
            minutes = self._counts["minutes"]
            minutes[minute,] += numbers.get("accepted", 0)
            for past in [one for one in minutes if one[0] <= minute - MINUTES]:
                del minutes[past]

    def reload(self, fate: str) -> None:
        """Counts a reload by its fate, done or failed."""
        with self._lock:
            self._counts["reloads"][fate,] += 1

    @property
    def reloads(self) -> Counter[str]:
        """Numbers of reloads of this worker by their fate."""
        with self._lock:
            counts = self._counts["reloads"]
            return Counter({fate: number for (fate,), number in counts.items()})

    def minutes(self) -> list[int]:
        """Numbers of events that were accepted in each of the last `MINUTES`, the oldest first."""
        minute, (counts, _) = int(self._clock() // 60), self._summed({})
        return [counts["minutes"][n,] for n in range(minute - MINUTES + 1, minute + 1)]

    def share(self, gauges: Mapping[str, float]) -> None:
        """Leaves the counts of this worker for the others, where there are any.

        Args:
            gauges: Present values by name.
        """
        if self._folder is None:
            return
        with self._lock:
            counts = {name: list(one.items()) for name, one in self._counts.items()}
        content = json.dumps({"at": self._clock(), "gauges": dict(gauges), "counts": counts})
        path = self._folder / f"{os.getpid()}.json"
        # Metrics must not fail a service whose disk is full.
        with contextlib.suppress(OSError):
            path.with_suffix(".new").write_text(content)
            os.replace(path.with_suffix(".new"), path)

    def text(self, gauges: Mapping[str, float], model: str) -> str:
        """Returns the page.

        Args:
            gauges: Present values by name.
            model: Version of the model that is served.
        """
        counts, gauges = self._summed(gauges)
        lines = ["# TYPE metajax_requests_total counter"]
        for (method, path, status), count in sorted(counts["requests"].items()):
            labels = f'method="{method}",path="{path}",status="{status}"'
            lines.append(f"metajax_requests_total{{{labels}}} {count}")
        lines.append("# TYPE metajax_request_seconds histogram")
        for (path,), seconds in sorted(counts["seconds"].items()):
            total = 0
            for place, bound in enumerate((*map(str, _BOUNDS), "+Inf")):
                total += counts["buckets"][path, place]
                labels = f'path="{path}",le="{bound}"'
                lines.append(f"metajax_request_seconds_bucket{{{labels}}} {total}")
            lines.append(f'metajax_request_seconds_sum{{path="{path}"}} {seconds:.6f}')
            lines.append(f'metajax_request_seconds_count{{path="{path}"}} {total}')
        for name in ("events", "reloads"):
            lines.append(f"# TYPE metajax_{name}_total counter")
            lines += [
                f'metajax_{name}_total{{fate="{fate}"}} {number}'
                for (fate,), number in sorted(counts[name].items())
            ]
        for name, value in gauges.items():
            lines += [f"# TYPE metajax_{name} gauge", f"metajax_{name} {value:g}"]
        lines += ["# TYPE metajax_model_info gauge", f'metajax_model_info{{version="{model}"}} 1']
        return "\n".join(lines) + "\n"

    def _summed(self, gauges: Mapping[str, float]) -> tuple[_Counts, dict[str, float]]:
        """Adds what the other workers left; of lag it is the longest that counts."""
        counts: _Counts = defaultdict(Counter)
        with self._lock:
            for name, one in self._counts.items():
                counts[name].update(one)
        present = dict(gauges)
        for other in self._others():
            for name, pairs in other["counts"].items():
                counts[name].update({tuple(key): number for key, number in pairs})
            if self._clock() - other["at"] <= _FRESH:
                for name, value in other["gauges"].items():
                    known = present.get(name, 0.0)
                    present[name] = max(known, value) if "lag" in name else known + value
        return counts, present

    def _others(self) -> list[dict[str, Any]]:
        if self._folder is None:
            return []
        found = []
        for path in self._folder.glob("*.json"):
            if path.stem != str(os.getpid()):
                with contextlib.suppress(OSError, ValueError):
                    found.append(json.loads(path.read_text()))
        return found

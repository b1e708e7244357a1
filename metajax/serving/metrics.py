"""Counters and histograms of a service, in the text format of Prometheus."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

__all__ = ["Metrics"]

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper ends of the buckets of latency, in seconds."""


MINUTES = 60
"""Minutes of which the numbers of events are kept."""


class Metrics:
    """Counts since the start; its methods may be called from any thread.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._minutes = clock, Counter[int]()
        self.lag = 0.0
        """Seconds by which the event loop came late when it was last looked at."""
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._reloads: Counter[str] = Counter()

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
            self._requests[method, path, status] += 1
            self._buckets[path, place] += 1
            self._seconds[path] += seconds  # type: ignore[assignment]

    def events(self, **numbers: int) -> None:
        """Counts events by their fate."""
        minute = int(self._clock() // 60)
        with self._lock:
            self._events.update(numbers)
            self._minutes[minute] += numbers.get("accepted", 0)
            for past in [one for one in self._minutes if one <= minute - MINUTES]:
                del self._minutes[past]

    def reload(self, fate: str) -> None:
        """Counts a reload by its fate, done or failed."""
        with self._lock:
            self._reloads[fate] += 1

    @property
    def reloads(self) -> Counter[str]:
        """Numbers of reloads by their fate."""
        with self._lock:
            return self._reloads.copy()

    def minutes(self) -> list[int]:
        """Numbers of events that were accepted in each of the last `MINUTES`, the oldest first."""
        minute = int(self._clock() // 60)
        with self._lock:
            return [self._minutes[n] for n in range(minute - MINUTES + 1, minute + 1)]

    def text(self, gauges: Mapping[str, float], model: str) -> str:
        """Returns the page.

        Args:
            gauges: Present values by name.
            model: Version of the model that is served.
        """
        with self._lock:
            requests, buckets = dict(self._requests), dict(self._buckets)
            seconds, events = dict(self._seconds), dict(self._events)
        lines = ["# TYPE metajax_requests_total counter"]
        for (method, path, status), count in sorted(requests.items()):
            labels = f'method="{method}",path="{path}",status="{status}"'
            lines.append(f"metajax_requests_total{{{labels}}} {count}")
        lines.append("# TYPE metajax_request_seconds histogram")
        for path in sorted(seconds):
            total = 0
            for place, bound in enumerate((*map(str, _BOUNDS), "+Inf")):
                total += buckets.get((path, place), 0)
                labels = f'path="{path}",le="{bound}"'
                lines.append(f"metajax_request_seconds_bucket{{{labels}}} {total}")
            lines.append(f'metajax_request_seconds_sum{{path="{path}"}} {seconds[path]:.6f}')
            lines.append(f'metajax_request_seconds_count{{path="{path}"}} {total}')
        lines.append("# TYPE metajax_events_total counter")
        lines += [f'metajax_events_total{{fate="{f}"}} {n}' for f, n in sorted(events.items())]
        lines.append("# TYPE metajax_reloads_total counter")
        lines += [f'metajax_reloads_total{{fate="{f}"}} {n}' for f, n in self.reloads.items()]
        for name, value in gauges.items():
            lines += [f"# TYPE metajax_{name} gauge", f"metajax_{name} {value:g}"]
        lines += ["# TYPE metajax_model_info gauge", f'metajax_model_info{{version="{model}"}} 1']
        return "\n".join(lines) + "\n"

"""Cost of the service, and what it loses when it is killed.

    python benchmarks/serving.py [--model FOLDER] [--items 10000 100000] [--json FILE]

Timed are: lists for users with 5 events, new to the service each, in process and over HTTP by 4
clients; a batch of users (`recommend_batch`); events stored in groups by 4 threads, as long as
until they are on the disk; and the log read again. All of --model, a fitted folder, and of
artificial catalogues of --items, whose model is `eb_fold_in`. Over HTTP a
list is stored with its propensities before it is shown, which costs a commit; a commit alone is
timed beside it, also in PostgreSQL where --database names an empty database of a server. So much
memory is counted as --kept users take whose first items are remembered.

--soak SECONDS besides kills and restarts the service --kills times under the load of 4 clients, and
compares the log with what was acknowledged, and lists with the model alone. All traffic stays on
the loopback address, and ends by itself.
"""

import argparse
import contextlib
import functools
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from measuring import device, write
from rich.console import Console
from rich.table import Table

from metajax import engine, runs
from metajax.data.dataset import Dataset
from metajax.data.dataset import Table as Columns
from metajax.data.interactions import from_columns
from metajax.runs.recommender import Seen, liked_rating
from metajax.serving import Event, Store, labels_of
from metajax.serving.scoring import ListRequest, Scorer, scorer_of
from metajax.serving.state import FIRST, PLACE, KeptLists

__all__ = ["main"]

EVENTS, CLIENTS, GROUP = 5, 4, 100
PROGRAM = (
    "import sys; from metajax.serving import server; server.serve(sys.argv[1], events=sys.argv[2],"
    " port=0, ready=lambda address: print(address, flush=True))"
)


def artificial(items: int, users: int = 400, rows: int = 40, seed: int = 0) -> Dataset:
    """Makes ratings of a catalogue with a skewed popularity, and a class an item."""
    rng = np.random.default_rng(seed)
    item = np.concatenate(
        [np.unique((items * rng.random(rows) ** 2).astype(int)) for _ in range(users)]
    )
    user = np.cumsum(np.concatenate([[0], np.diff(item) < 0])) % users
    # Where two users meet in order they are one; none rates an item twice.
    kept = np.unique(user * items + item, return_index=True)[1]
    user, item = user[kept], item[kept]
    tastes, traits = rng.normal(size=(users, 4)), rng.normal(size=(items, 4))
    rating = np.clip(np.round(3 + np.sum(tastes[user] * traits[item], 1) / 2), 1, 5)
    user_ids = np.char.add("u", np.char.zfill(np.arange(users).astype(str), 6))
    item_ids = np.char.add("i", np.char.zfill(np.arange(items).astype(str), 6))
    kinds = np.array(["Comedy", "Drama", "War"])[np.argmax(traits[:, :3], axis=1)]
    return Dataset(
        "artificial",
        from_columns(user, item, rating, user_ids=user_ids, item_ids=item_ids),
        Columns(user_ids, {}, {}),
        Columns(item_ids, {"class": kinds}, {"class": "categorical"}),
        (1.0, 5.0),
    )


def asked(scorer: Scorer, rng: np.random.Generator) -> dict[str, float]:
    """Draws labels of 5 items."""
    items = rng.choice(len(scorer.ids), EVENTS, replace=False)
    return {scorer.ids[item]: float(rng.integers(1, 6)) for item in items}


def timed(call: Callable[[], object], count: int) -> np.ndarray:
    """Times calls: `[count]` milliseconds."""
    taken = np.empty(count)
    for n in range(count):
        start = time.perf_counter()
        call()
        taken[n] = 1e3 * (time.perf_counter() - start)
    return taken


def spread(taken: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(taken, (50, 99))
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


class Running(NamedTuple):
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    @property
    def memory(self) -> int:
        """Resident bytes; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    @property
    def cpu(self) -> float:
        """Seconds of the processor that it has taken; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            user, system = Path(f"/proc/{self.process.pid}/stat").read_text().split()[13:15]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return 0.0


def start(model: Path, log: Path) -> Running:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(model), f"sqlite:///{log}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        raise RuntimeError(f"the service did not start; it ended with {process.wait()}.")
    return Running(process, address)


def stop(running: Running, number: int = signal.SIGTERM) -> None:
    running.process.send_signal(number)
    running.process.wait(timeout=60)
    assert running.process.stdout is not None
    running.process.stdout.close()


@contextlib.contextmanager
def service(model: Path, log: Path) -> Iterator[Running]:
    running = start(model, log)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            stop(running)


def connection(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)


def sent(link: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body)
    link.request(method, path, content, {"Content-Type": "application/json"} if content else {})
    answer = link.getresponse()
    raw = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {raw[:200]!r}")
    return json.loads(raw)


def side_by_side(work: Callable[[int], np.ndarray], clients: int = CLIENTS) -> np.ndarray:
    """Lets clients work at the same time; joins what they return, and raises what they raise."""
    found: list[np.ndarray] = []
    problems: list[BaseException] = []

    def run(n: int) -> None:
        try:
            found.append(work(n))
        except BaseException as problem:  # Raised below, in the thread that asked.
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return np.concatenate(found)


def _next_list(scorer: Scorer, waiting: Iterator[ListRequest]) -> object:
    return scorer.lists([next(waiting)])


def of_model(folder: Path, options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """Times lists of one model, in process and over HTTP."""
    began = time.perf_counter()
    scorer = scorer_of(folder, policies=("greedy", "thompson"))
    ready_s = time.perf_counter() - began
    facts = {"method": scorer.method, "items": len(scorer.ids)}
    rng = np.random.default_rng(0)
    records: list[dict[str, Any]] = []

    def add(workload: str, **values: Any) -> None:
        records.append({**facts, "workload": workload, **values})
        print(json.dumps(records[-1]), flush=True)

    add("load and compile", seconds=round(ready_s, 2))
    for name, request in (
        ("a list", lambda: ListRequest(asked(scorer, rng))),
        (
            "a list by thompson",
            lambda: ListRequest(asked(scorer, rng), policy="thompson"),
        ),
        ("a list with reasons", lambda: ListRequest(asked(scorer, rng), explain=True)),
        ("a list of a known user", lambda: ListRequest({})),
    ):
        waiting = iter([request() for _ in range(options.requests + 1)])
        scorer.lists([next(waiting)])
        call = functools.partial(_next_list, scorer, waiting)
        add(f"{name}, in process", **spread(timed(call, options.requests)))
    batch = [asked(scorer, rng) for _ in range(options.batch)]
    recommender = scorer.recommender
    runs.recommend_batch(recommender, batch, by_id=True)
    taken = timed(lambda: runs.recommend_batch(recommender, batch, by_id=True), 3)
    add(
        "a batch",
        users=len(batch),
        users_a_second=round(1e3 * len(batch) / float(np.median(taken))),
    )
    with service(folder, place / f"{len(scorer.ids)}.db") as running:
        empty, callers = running.memory, itertools.count()

        def lists(client: int) -> np.ndarray:
            # Nobody asks what another asked: those scores would be kept.
            link, own = connection(running.address), np.random.default_rng([client, next(callers)])
            bodies = []
            for _ in range(options.requests // CLIENTS):
                labels = asked(scorer, own)
                events = [{"item": i, "kind": "rating", "value": v} for i, v in labels.items()]
                bodies.append({"events": events})
            queue = iter(bodies)
            taken = timed(
                lambda: sent(link, "POST", "/v1/recommendations", next(queue)), len(bodies)
            )
            link.close()
            return taken

        began, cpu, own = time.perf_counter(), running.cpu, time.process_time()
        taken = side_by_side(lists)
        seconds = time.perf_counter() - began
        add(
            f"a list over HTTP, {CLIENTS} clients",
            **spread(taken),
            requests_a_second=round(len(taken) / seconds, 1),
            service_cpu_ms=round(1e3 * (running.cpu - cpu) / len(taken), 2),
            clients_cpu_ms=round(1e3 * (time.process_time() - own) / len(taken), 2),
        )
        add("a list over HTTP, 1 client", **spread(side_by_side(lists, 1)))
        link = connection(running.address)
        add(
            "a question without a list, 1 client",
            **spread(timed(lambda: sent(link, "GET", "/v1/model"), options.requests)),
        )
        link.close()
        add("memory", start_mib=round(empty / 2**20, 1), end_mib=round(running.memory / 2**20, 1))
    return records


def of_users(count: int) -> dict[str, Any]:
    """Counts the memory of so many users whose first items are kept."""
    own = Running(SimpleNamespace(pid=os.getpid()), "")  # type: ignore[arg-type]
    before, rng = own.memory, np.random.default_rng(0)
    kept, nobody = KeptLists(2**30), np.zeros(0, np.float32)

    def compute(seen: Sequence[Seen]) -> np.ndarray:
        rows = np.zeros((len(seen), FIRST), PLACE)
        rows["score"] = rng.random(rows.shape)
        return rows

    for start in range(0, count, 1000):
        users = [
            Seen(np.arange(n, n + EVENTS), np.ones(EVENTS), nobody)
            for n in range(start, min(start + 1000, count))
        ]
        kept.of(users, b"", compute)
    return {
        "workload": "kept users",
        "users": kept.users,
        "mib": round((own.memory - before) / 2**20, 1),
        "counted_mib": round(kept.size / 2**20, 1),
    }


def of_store(url: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times a log alone."""
    records: list[dict[str, Any]] = []
    with Store(url) as store:
        taken = timed(lambda: store.check_writable(), min(options.requests, 100))
        records.append({"workload": "a commit", **spread(taken)})
        groups = max(1, options.events // GROUP // CLIENTS)

        def write_groups(client: int) -> np.ndarray:
            numbers = iter(range(groups))

            def one() -> None:
                n = next(numbers)
                store.add_events(
                    [
                        Event(f"{client}-{n}-{m}", f"u{m}", f"i{n % 1000}", "view", None, 1.7e9)
                        for m in range(GROUP)
                    ]
                )

            return timed(one, groups)

        began = time.perf_counter()
        taken = side_by_side(write_groups)
        seconds = time.perf_counter() - began
        stored = groups * GROUP * CLIENTS
        records.append(
            {
                "workload": f"events in groups of {GROUP}, {CLIENTS} threads",
                "events": stored,
                "events_a_second": round(stored / seconds),
                **spread(taken),
            }
        )
        began, after, read = time.perf_counter(), 0, 0
        while page := store.events(after):
            after, read = page[-1][0], read + len(page)
        seconds = time.perf_counter() - began
        assert read == stored
        records.append(
            {"workload": "replay", "events": read, "events_a_second": round(read / seconds)}
        )
    for record in records:
        record["database"] = "PostgreSQL" if store.shared else "SQLite"
        print(json.dumps(record), flush=True)
    return records


def soak(folder: Path, options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Kills the service under load, and counts what it lost, stored twice or answered wrongly."""
    log, scorer = place / "soak.db", scorer_of(folder, policies=("greedy",))
    acknowledged: list[str] = []
    address = [""]
    requests, memory = [0], []
    guard, done = threading.Lock(), threading.Event()

    def client(n: int) -> np.ndarray:
        own, number = random.Random(n), 0
        link = None
        while not done.is_set():
            number += 1
            ids = [f"{n}-{number}-{m}" for m in range(own.randint(1, 5))]
            user = f"u{own.randrange(200)}"
            events = [
                {"id": i, "user": user, "item": own.choice(scorer.ids), "kind": "rating",
                 "value": own.randint(1, 5)}
                for i in ids
            ]  # fmt: skip
            # Sent until it is acknowledged: with the same ids, it is stored once.
            while not done.is_set():
                try:
                    link = link or connection(address[0])
                    sent(link, "POST", "/v1/events", {"events": events})
                    if number % 5 == 0:
                        sent(link, "GET", f"/v1/users/{user}/recommendations")
                    break
                except (OSError, http.client.HTTPException):
                    if link is not None:
                        link.close()
                    link = None
                    time.sleep(0.05)
            else:
                break
            with guard:
                acknowledged.extend(ids)
                requests[0] += 1 + (number % 5 == 0)
        if link is not None:
            link.close()
        return np.zeros(0)

    def killer() -> None:
        pause = options.soak / (options.kills + 1)
        running = start(folder, log)
        address[0] = running.address
        try:
            for _ in range(options.kills):
                time.sleep(pause)
                memory.append(running.memory)
                stop(running, signal.SIGKILL)
                running = start(folder, log)
                address[0] = running.address
            time.sleep(pause)
            memory.append(running.memory)
        finally:
            done.set()
            stop(running)

    thread = threading.Thread(target=killer)
    thread.start()
    while not address[0] and thread.is_alive():
        time.sleep(0.05)
    side_by_side(client)
    thread.join()
    wrong = 0
    with Store(f"sqlite:///{log}") as store:
        stored = Counter(event.id for _, event in store.events(most=10**9))
        users = [f"u{n}" for n in range(0, 200, 10)]
        events = {user: store.events_of(user, 1000) for user in users}
    liked = liked_rating(scorer.recommender)
    requests_of = [
        ListRequest(labels_of(own, liked=liked, worst=1.0), {event.item for event in own})
        for own in events.values()
    ]
    with service(folder, log) as running:
        link = connection(running.address)
        for user, request in zip(users, requests_of, strict=True):
            shown = sent(link, "GET", f"/v1/users/{user}/recommendations")["items"]
            (expected,) = scorer.lists([request])
            assert isinstance(expected, list)
            same = [one["item"] for one in shown] == [line.item for line in expected]
            close = np.allclose(
                [one["score"] for one in shown], [line.score for line in expected], rtol=1e-4
            )
            wrong += not (same and close)
        link.close()
    return {
        "workload": f"soak with {options.kills} kills",
        "seconds": options.soak,
        "requests": requests[0],
        "acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - set(stored)),
        "twice": sum(count > 1 for count in stored.values()),
        "lists_compared": len(users),
        "wrong": wrong,
        "memory_mib": [round(size / 2**20) for size in memory],
    }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measures, prints a table and returns the records."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(dir=options.scratch) as made:
        place = Path(made)
        folders = []
        for items in options.items:
            fitted = engine.fit(artificial(items), "eb_fold_in", trials=1)
            folders.append(engine.save(fitted, place / f"model-{items}"))
        # The quickest to start first: the soak starts it often.
        folders += [] if options.model is None else [options.model]
        records = of_store(f"sqlite:///{place / 'store.db'}", options)
        if options.database is not None:
            records += of_store(options.database, options)
        records.append(of_users(options.kept))
        for folder in folders:
            records += of_model(folder, options, place)
        if options.soak and folders:
            records.append(soak(folders[0], options, place))
    if options.json is not None:
        write(options.json, records)
    table = Table("items", "method", "workload", "found", title=device())
    for record in records:
        rest = {k: v for k, v in record.items() if k not in ("items", "method", "workload")}
        text = ", ".join(f"{name} {value}" for name, value in rest.items())
        table.add_row(
            str(record.get("items", "")), record.get("method", ""), record["workload"], text
        )
    Console(width=140).print(table)
    return records


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a fitted model")
    parser.add_argument("--database", metavar="URL", help="an empty database of a server")
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000], metavar="N")
    for name, default, least, what in (
        ("requests", 400, CLIENTS, "lists of each kind"),
        ("batch", 2048, 1, "users of a batch"),
        ("events", 100_000, GROUP * CLIENTS, "events stored"),
        ("kept", 1_000_000, 1, "users whose first items are kept"),
        ("soak", 0, 0, "seconds of load beside kills; 0: none"),
        ("kills", 20, 0, "kills of the soak"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
        parser.set_defaults(**{f"least_{name}": least})
    parser.add_argument("--scratch", type=Path, metavar="FOLDER", help="folder of the disk to test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("requests", "batch", "events", "kept", "soak", "kills"):
        least = getattr(options, f"least_{name}")
        if getattr(options, name) < least:
            parser.error(f"--{name} must be >= {least}, got {getattr(options, name)}.")
    if any(items < 100 for items in options.items):
        parser.error("--items must be >= 100.")
    return options


if __name__ == "__main__":
    main()

"""Studies: searches for settings by Optuna, in a file that many processes write to.

    FILE          Optuna's journal: what is searched, and every trial
    FILE.lock     Optuna's lock, for as long as a line takes to be written
    FILE.owner    the process that searches, while it does
    FILE.data     data for the worker processes, while they run

A trial that has ended is in the journal, forced to the disk. One that was under way when its
process was killed counts for nothing and is tried again with the same settings.
"""

import contextlib
import functools
import itertools
import json
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from metajax import files, locks, registry, storage
from metajax.data.dataset import Dataset, fingerprint
from metajax.data.memory import OutOfMemoryError
from metajax.evaluation.workers import in_processes
from metajax.fields import Choices, Search, with_tuples
from metajax.knowledge import GraphSettings
from metajax.methods import Settings
from metajax.search.spaces import Objective, Problem, setting_of
from metajax.training import DivergedError

__all__ = [
    "Study",
    "Tried",
    "best_of",
    "check_data",
    "check_digest",
    "graph_settings_of",
    "number_of_trials",
    "read",
    "settings_of",
    "tune",
]

_NAME = "metajax"
_FACTS = "facts"  # of the study, and
_INDEX, _FAILURE = "index", "failure"  # of a trial

# A space with no more points is gone through, each once.
_ENUMERATED = 64

# A trial whose process was killed so often is given up, with an infinite loss.
_MOST_KILLED = 5

# Trials compile programs of their own, which pile up.
_KEPT_TRIALS = 8

# Seconds after which the lock of a killed process is broken; a line takes some milliseconds.
_GRACE = 10

_STARTUP, _SEED_BITS = 5, 32


class Tried(NamedTuple):
    """A trial that has ended."""

    index: int
    """Its number in the budget, from 0."""
    state: Literal["finished", "pruned", "failed"]
    """Finished; ended early by its validation curve; or without a loss."""
    loss: float
    """Validation loss; of a pruned trial the last one, of a failed one infinite."""
    chosen: Mapping[str, Any]
    """Its settings."""
    curve: Mapping[int, float]
    """Validation losses by step, where it was validated on the way."""
    seconds: float
    """Time that it took."""
    failure: str
    """Why there is no loss; else empty."""


class Study(NamedTuple):
    """A search and its trials."""

    path: Path
    """Its file."""
    facts: Mapping[str, Any]
    """What is searched: `Problem.facts`."""
    trials: tuple[Tried, ...]
    """Trials that have ended, by index."""
    importances: Mapping[str, float]
    """Share of each setting in the differences between losses, PED-ANOVA, the largest first; empty
    where there are too few trials to tell."""


def number_of_trials(space: Mapping[str, Search], trials: int) -> int:
    """Returns how many trials a search makes: no more than a small space has points.

    Args:
        space: The search space.
        trials: The budget.
    """
    points = _points(space, {})
    return trials if points is None else min(trials, len(points))


def tune(
    problem: Problem,
    path: str | os.PathLike[str],
    *,
    trials: int = 30,
    workers: int = 1,
    on_trials: Callable[[Sequence[Tried]], None] = lambda tried: None,
) -> Study:
    """Searches for the settings with the lowest validation loss, or goes on with a search.

    Settings are drawn by TPE, the defaults first; trials whose validation curve is worse than the
    median of the others at the same step are ended early. With one worker the draws depend on the
    seed alone, whether or not the search was stopped on the way; with several also on which trial
    ends first.

    Args:
        problem: What to search.
        path: File of the study; new, or that of an earlier search for the same.
        trials: Number of trials in all, those of earlier calls included.
        workers: Number of processes, each of one thread; 1 means this process, with all threads.
        on_trials: Called with the trials that have ended, now and then and at the end.

    Returns:
        The study.

    Raises:
        ValueError: If `trials` or `workers` < 1, the file holds something else or a study of
            another method, data set or setting, or no trial has a loss.
        LockedError: If another process searches in it.
        WorkersError: If workers were killed again and again; the trials that have ended are kept.
        ImportError: If the extra `tune` is not installed.
        OSError: If the file cannot be written.

    References:
        Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011. Akiba et al.,
        Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019. Watanabe et al.,
        PED-ANOVA: Efficiently Quantifying Hyperparameter Importance, IJCAI 2023.
    """
    for name, value in (("trials", trials), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    _optuna()
    path = Path(path)
    # Refuses what cannot be learned before a file is there.
    objective = problem.objective()
    storage.make_folder(path.parent)
    with locks.locked(path.parent, f"{path.name}.owner"), _naming(path):
        _mend(path)
        study = _opened(path, problem.warmup, new=True)
        _identify(study, path, problem.facts())
        _fail_running(study)
        wanted = range(number_of_trials(problem.space, trials))
        todo = [index for index in wanted if index not in {t.index for t in _ended(study)}]
        on_trials(_ended(study))
        if workers == 1 or len(todo) < 2:
            for n, index in enumerate(todo):
                _try(study, problem, objective, index)
                on_trials(_ended(study))
                if (n + 1) % _KEPT_TRIALS == 0:
                    jax.clear_caches()
        else:
            data = path.with_name(f"{path.name}.data")
            storage.write_pieces(data, [pickle.dumps(problem)])
            try:
                with _single_threaded():
                    in_processes(
                        _work,
                        [(path, data, index) for index in todo],
                        jobs=workers,
                        waiting=lambda: on_trials(_ended(study)),
                        starting=lambda: _fail_running(study),
                    )
            finally:
                data.unlink(missing_ok=True)
        found = _study_of(study, path)
    best_of(found)
    return found


def read(path: str | os.PathLike[str]) -> Study:
    """Reads a study, which may be under way.

    Raises:
        ValueError: If the file is none, or damaged.
        ImportError: If the extra `tune` is not installed.
        OSError: If it cannot be read.
    """
    path = Path(path)
    _check_journal(files.read_bytes(path), path)
    study = _opened(path)
    if _FACTS not in study.user_attrs:
        raise ValueError(f"{path}: holds no study of metajax tune.")
    return _study_of(study, path)


def best_of(study: Study) -> Tried:
    """Returns the finished trial with the lowest loss, the earliest of equals.

    Raises:
        ValueError: If there is none.
    """
    finished = [t for t in study.trials if t.state == "finished"]
    if not finished:
        failures = [t.failure for t in study.trials if t.failure]
        reason = f": {failures[0]}" if failures else "."
        raise ValueError(f"{study.path}: no trial has a loss{reason}")
    return min(finished, key=lambda t: t.loss)


def settings_of(study: Study) -> Settings:
    """Returns the settings of a method with the values of the best trial.

    Raises:
        ValueError: If no trial has a loss, or the study is of link prediction.
    """
    if "method" not in study.facts["settings"]:
        raise ValueError(f"{study.path}: a study of a graph: use metajax graph train.")
    settings = registry.from_values(study.facts["settings"])
    chosen = best_of(study).chosen
    baseline = registry.closed_form_of(settings)
    if baseline is not None:
        return registry.with_setting(settings, setting_of(baseline, chosen))
    return registry.with_changes(settings, **chosen)


def graph_settings_of(study: Study) -> GraphSettings:
    """Returns the settings of link prediction with the values of the best trial.

    Raises:
        ValueError: If no trial has a loss, or the study is of another method.
    """
    if "method" in study.facts["settings"]:
        raise ValueError(f"{study.path}: a study of {study.facts['method']}: use metajax train.")
    return GraphSettings(**with_tuples({**study.facts["settings"], **best_of(study).chosen}))


def check_data(study: Study, dataset: Dataset) -> None:
    """Refuses data other than those of a study.

    Raises:
        ValueError: If they are others.
    """
    check_digest(study, {"data": dataset.name, "digest": fingerprint(dataset)})


def check_digest(study: Study, facts: Mapping[str, Any]) -> None:
    """Refuses data other than those of a study.

    Args:
        study: The study.
        facts: `Problem.facts`, of which `data` and `digest` count.

    Raises:
        ValueError: If they are others.
    """
    _check_digest(study.path, study.facts, facts)


def _check_digest(path: Path, known: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    if known["digest"] != json.loads(json.dumps(facts["digest"])):
        raise ValueError(
            f"{path}: a study of another data set, {_described(known)}; got {_described(facts)}."
        )


def _described(facts: Mapping[str, Any]) -> str:
    name, digest = facts["data"], facts["digest"]
    counts = [f"{n:,} {what}" for what, n in digest.items() if type(n) is int]
    return f"{name} ({', '.join(counts)}, sha256 {digest['sha256'][:8]})"


def _identify(study: Any, path: Path, facts: dict[str, Any]) -> None:
    """Writes what is searched into a new study; refuses another one."""
    facts = json.loads(json.dumps(facts))
    known = study.user_attrs.get(_FACTS)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise ValueError(f"{path}: holds no study of metajax tune.")
        study.set_user_attr(_FACTS, facts)
        return
    if known["method"] != facts["method"]:
        raise ValueError(
            f"{path}: a study of another method, {known['method']}; got {facts['method']}."
        )
    _check_digest(path, known, facts)
    for name in ("protocol", "fold", "seed", "version", "settings", "space"):
        pairs = [(name, known[name], facts[name])]
        if isinstance(facts[name], dict):
            # Where the data lie may change.
            one, other = _flat(known[name]), _flat(facts[name])
            keys = [k for k in {**one, **other} if k not in ("data", "source")]
            pairs = [(f"{name}, {k},", one.get(k), other.get(k)) for k in keys]
        for what, one, other in pairs:
            if one != other:
                raise ValueError(
                    f"{path}: a study of another {what} {_said(one)}; got {_said(other)}."
                )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a mapping, with those of tables by such names as maml.steps."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        table = value if isinstance(value, dict) else None
        found |= {name: value} if table is None else {f"{name}.{k}": v for k, v in table.items()}
    return found


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("a search needs optuna: install the extra, 'metajax[tune]'.") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Names the file in errors of writing that Optuna leaves without, such as of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _mend(path: Path) -> None:
    """Cuts off the line that a killed process has not written to its end, and breaks its lock.

    This process owns the file: whoever held the lock is dead.
    """
    if path.exists():
        content = files.read_bytes(path)
        _check_journal(content, path)
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            storage.cut(path, whole)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def _check_journal(content: bytes, path: Path) -> None:
    first, newline, _ = content.partition(b"\n")
    if not newline:
        if content and not content.startswith(b"{"):
            raise ValueError(f"{path}: holds no study.")
        return  # Killed in its first line.
    try:
        journal = "op_code" in json.loads(first)
    except (TypeError, ValueError):
        journal = False
    if not journal:
        raise ValueError(f"{path}: holds no study.")


def _opened(path: Path, warmup: int = 0, *, new: bool = False) -> Any:
    """Opens the study of a file; where `new`, makes it if there is none."""
    optuna = _optuna()
    journal = optuna.storages.journal
    lock = journal.JournalFileOpenLock(str(path), grace_period=_GRACE)
    pruner = optuna.pruners.MedianPruner(_STARTUP, warmup)
    try:
        held = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is damaged: {error}") from None
    # Looked for first: to make one that exists writes to the file.
    if any(found.study_name == _NAME for found in held.get_all_studies()):
        return optuna.load_study(study_name=_NAME, storage=held, pruner=pruner)
    if not new:
        raise ValueError(f"{path}: holds no study of metajax tune.")
    return optuna.create_study(study_name=_NAME, storage=held, pruner=pruner)


def _fail_running(study: Any) -> None:
    """Marks trials as failed whose process was killed."""
    states = _optuna().trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)


def _ended(study: Any) -> list[Tried]:
    states = _optuna().trial.TrialState
    found = {}
    for trial in study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED)):
        pruned, loss = trial.state == states.PRUNED, float(trial.value)
        state = "pruned" if pruned else "finished" if math.isfinite(loss) else "failed"
        index = trial.user_attrs[_INDEX]
        curve = {int(step): float(value) for step, value in trial.intermediate_values.items()}
        seconds = trial.duration.total_seconds() if trial.duration is not None else 0.0
        failure = trial.user_attrs.get(_FAILURE, "")
        found[index] = Tried(index, state, loss, dict(trial.params), curve, seconds, failure)
    return [found[index] for index in sorted(found)]


def _study_of(study: Any, path: Path) -> Study:
    trials = tuple(_ended(study))
    finished = [t for t in trials if t.state == "finished"]
    importances: dict[str, float] = {}
    # Of fewer it says that all are alike.
    if len({t.loss for t in finished}) >= _STARTUP:
        found = _optuna().importance.get_param_importances(study)
        importances = dict(sorted(found.items(), key=lambda pair: -pair[1]))
    return Study(path, study.user_attrs[_FACTS], trials, importances)


def _points(space: Mapping[str, Search], first: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Lists the points of a small space, the defaults first; None of a large one."""
    values: list[Sequence[Any]] = []
    for search in space.values():
        if isinstance(search, Choices):
            values.append(search.values)
        elif search.whole:
            values.append(range(int(search.low), int(search.high) + 1))
        else:
            return None
    if math.prod(map(len, values)) > _ENUMERATED:
        return None
    points = [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]
    return sorted(points, key=lambda point: point != first)


def _try(study: Any, problem: Problem, objective: Objective, index: int) -> None:
    """Makes one trial of the budget."""
    optuna = _optuna()
    states = optuna.trial.TrialState
    space, first = problem.space, problem.defaults
    points = _points(space, first)
    killed = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(states.FAIL,))
        if trial.user_attrs.get(_INDEX) == index
    ]
    if points is not None:
        chosen = points[index]
    elif index == 0 and all(first[name] in values for name, values in space.items()):
        chosen = first
    else:
        chosen = dict(killed[-1].params) if killed else None
    seed = np.random.SeedSequence([problem.seed, index]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed)) if chosen is None else _given(chosen)
    trial = study.ask({name: _distribution(values) for name, values in space.items()})
    trial.set_user_attr(_INDEX, index)
    failure, loss = "", math.inf
    if len(killed) >= _MOST_KILLED:
        failure = f"its process was killed {len(killed)} times, perhaps for want of memory"
    else:

        def report(step: int, loss: float) -> None:
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            loss = objective(trial.params, report)
        except optuna.TrialPruned:
            study.tell(trial, state=states.PRUNED)
            return
        except (DivergedError, OutOfMemoryError, ValueError) as error:
            failure = str(error)
        if not failure and not math.isfinite(loss):
            failure = f"the validation loss is {loss:g}"
    if failure:
        trial.set_user_attr(_FAILURE, failure)
    study.tell(trial, math.inf if failure else loss)


def _given(chosen: Mapping[str, Any]) -> Any:
    """Makes a sampler of given values."""
    base: Any = _optuna().samplers.BaseSampler

    class Given(base):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(
            self, study: Any, trial: Any, param_name: str, param_distribution: Any
        ) -> Any:
            return chosen[param_name]

    return Given()


def _distribution(search: Search) -> Any:
    distributions = _optuna().distributions
    if isinstance(search, Choices):
        return distributions.CategoricalDistribution(search.values)
    if search.whole:
        return distributions.IntDistribution(int(search.low), int(search.high), log=search.log)
    return distributions.FloatDistribution(search.low, search.high, log=search.log)


def _work(share: tuple[Path, Path, int]) -> None:
    path, data, index = share
    study, problem, objective = _opened_by_worker(path, data)
    _try(study, problem, objective, index)
    made = _TRIALS_HERE.setdefault(path, 0) + 1
    _TRIALS_HERE[path] = made
    if made % _KEPT_TRIALS == 0:
        jax.clear_caches()


_TRIALS_HERE: dict[Path, int] = {}


@functools.lru_cache(maxsize=1)
def _opened_by_worker(path: Path, data: Path) -> tuple[Any, Problem, Objective]:
    problem: Problem = pickle.loads(data.read_bytes())
    return _opened(path, problem.warmup), problem, problem.objective()


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Has the processes that are started meanwhile compute on one thread each."""
    flag = "--xla_cpu_multi_thread_eigen=false"
    changes = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    changes["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    before = {name: os.environ.get(name) for name in changes}
    os.environ |= changes
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

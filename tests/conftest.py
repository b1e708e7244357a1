import os
from pathlib import Path

# Of pytest's workers, which inherit it, there is one for each core. More threads of NumPy's would
# wait for one another, and take the cores from those that compute while they do.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
import pytest

from metajax import runs
from metajax.data.dataset import Dataset
from metajax.data.datasets import load
from metajax.data.fetch import DataUnavailable
from metajax.knowledge import KnowledgeGraph, load_graph
from metajax.methods import Settings
from metajax.registry import settings_for

# Compiling is what tests wait for, and what they compile runs once: XLA is to spare itself the
# trouble. Whoever sets XLA_FLAGS, to nothing for instance, has the programs as users have them.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if jax.__version_info__ < (0, 11):  # Later ones do not know the flag, and abort.
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)

# The workers and the processes that tests start compile much the same programs, and so does the
# next run: whoever is first keeps them for all, the small ones too, of which there are thousands.
# To read one back takes a fifth to a tenth of compiling it. JAX has read its environment by now.
CACHE = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
LEAST = os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", float(LEAST))

# Bytes that a worker may hold before the programs that it has compiled are dropped: thousands of
# them pile up to 8 GB in a run of all tests, and the compiler has crashed there.
MOST = 3 * 2**30


def pytest_configure(config):
    """Leaves slow tests out, but under CI and where marks are asked for (-m)."""
    if not os.environ.get("CI") and not config.option.markexpr:
        config.option.markexpr = "not slow"
    # Each worker takes a run of files, so that what a file's tests share is made but once.
    if config.getoption("dist", "no") == "load":
        config.option.dist = "worksteal"


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Drops compiled programs after a module where the process has grown large."""
    yield
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # Not on Linux.
        return
    if pages * os.sysconf("SC_PAGE_SIZE") > MOST:
        jax.clear_caches()


@pytest.fixture(scope="session")
def ml100k() -> Dataset:
    """MovieLens-100K; where it cannot be had the test is skipped, except under CI."""
    return _or_skipped(load)


@pytest.fixture(scope="session")
def film_graph() -> KnowledgeGraph:
    """The knowledge graph of MovieLens-100K, or the test is skipped likewise."""
    return _or_skipped(load_graph)


def _or_skipped(load_named):
    try:
        return load_named("ml-100k")
    except DataUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A log of 40 users and 30 items, 8 to 20 ratings each, as RecBole atomic files."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("small")
    taste, quality = rng.normal(size=40), rng.normal(size=30)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for u in range(40):
        for i in rng.permutation(30)[: rng.integers(8, 21)]:
            rating = np.clip(round(3 + taste[u] + quality[i] + 0.3 * rng.normal()), 1, 5)
            rows.append(f"{u}\t{i}\t{rating}\t{rng.integers(1000)}")
    (folder / "small.inter").write_text("\n".join(rows) + "\n")
    rows = ["user_id:token\tage:float\tgender:token"]
    rows += [f"{u}\t{30 + 10 * taste[u]:.0f}\t{'FM'[u % 2]}" for u in range(40)]
    (folder / "small.user").write_text("\n".join(rows) + "\n")
    rows = ["item_id:token\tmovie_title:token_seq\tclass:token_seq"]
    rows += [f"{i}\tFilm {i}\t{'Drama' if quality[i] > 0 else 'Comedy'}" for i in range(30)]
    (folder / "small.item").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """A graph of 40 films: genre, director, whose films they are, and a prize, as TSV."""
    rows = []
    for n in range(40):
        film, director = f"film{n}", f"person{n % 5}"
        rows += [f"{film}\tgenre\tgenre{n % 3}", f"{film}\tdirector\t{director}"]
        rows += [f"{director}\tdirected\t{film}", f"{film}\taward_won\tprize{n % 2}"]
    path = tmp_path_factory.mktemp("films") / "films.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def quick(small) -> Settings:
    return settings_for(
        "maml",
        data=str(small), rank=2, width=8, embedding=4, steps=2, updates=40, tasks=8, query=5,
        per_dispatch=5, validate_every=10, inner_rate=0.05,
    )  # fmt: skip


@pytest.fixture(scope="session")
def begin_run():
    """Makes a run's folder; returns the open run and its first progress."""

    def begin(folder, settings):
        return runs.create(folder, settings, load(settings.data))

    return begin


@pytest.fixture(scope="session")
def trained(tmp_path_factory, quick, begin_run):
    """A finished run and its last progress, not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    progress, finished = runs.train_run(*begin_run(folder, quick))
    assert finished
    return folder, progress

import pytest

from metajax import data
from metajax.data.readers import trial
from metajax.data.readers.contents import content_of
from metajax.files import DataError

polars = pytest.importorskip("polars")


@pytest.fixture
def logs(tmp_path):
    """Two whole Parquet files."""
    frame = polars.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": [1, 2]})
    for name in ("one", "two"):
        frame.write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_whole_files_pass_and_a_damaged_one_is_named(logs):
    contents = [content_of(logs / f"{name}.parquet") for name in ("one", "two")]
    trial.check_parquet(contents)
    whole = (logs / "two.parquet").read_bytes()
    (logs / "two.parquet").write_bytes(whole[:40] + whole[60:])
    with pytest.raises(DataError, match=r"two\.parquet: not a Parquet file: .+[^.]\.$"):
        trial.check_parquet(contents)
    with pytest.raises(DataError, match=r"two\.parquet: not a Parquet file"):
        data.load(logs / "two.parquet")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; print(); print('thread panicked', file=__import__('sys').stderr); os.abort()",
         r"one\.parquet: not a Parquet file: it ends the program that reads it \(SIGABRT\)"),
        ("import sys; print(); print('why.', end=''); sys.exit(3)",
         r"one\.parquet: not a Parquet file: why\.$"),
        ("import time; time.sleep(60)", r"one\.parquet: cannot be read in 0\.2 s"),
    ],
)  # fmt: skip
def test_a_file_may_end_or_hold_the_other_process_alone(logs, monkeypatch, capfd, program, words):
    monkeypatch.setattr(trial, "_PROGRAM", program)
    monkeypatch.setattr(trial, "_SECONDS", 0.2 if "sleep" in program else 60)
    with pytest.raises(DataError, match=words):
        trial.check_parquet([content_of(logs / "one.parquet")])
    assert capfd.readouterr() == ("", "")

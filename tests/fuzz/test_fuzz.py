"""The fuzzer in the suite, and that it can find what it looks for."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metajax import files
from tests.fuzz import reference
from tests.fuzz.__main__ import case_of
from tests.fuzz.case import Case, judged
from tests.fuzz.logs import log_case

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_thousand_cases_are_read_right_or_refused_in_one_line():
    # In a process of its own: a library may end it, which is one of the failures.
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--cases", "2000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-3000:]
    assert "2,000 cases" in run.stdout
    # Most files can still be read by somebody: a generator of rubbish would test one message.
    counts = {line.rsplit(maxsplit=1)[0]: line.rsplit(maxsplit=1)[-1] for line in
              run.stdout.splitlines()[:-1]}  # fmt: skip
    for target in ("csv", "json", "movielens", "nt", "settings", "zip"):
        assert int(counts[f"{target}: read"].replace(",", "")) >= 10, run.stdout


def test_a_case_is_determined_by_its_number():
    for number in range(30):
        one, other = case_of(5, number), case_of(5, number)
        assert (one.target, one.files) == (other.target, other.files)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda folder: 1 / 0, "unforeseen ZeroDivisionError"),
        (lambda folder: int("x"), "unforeseen ValueError"),
        (lambda folder: files.check_file("/none"), "unnamed DataError: /none: no such file"),
        (lambda folder: time.sleep(9), "hang"),
        (lambda folder: [1], r"wrong read: \[1\] and not \[2\]"),
    ],
)
def test_what_is_not_allowed_fails(tmp_path, monkeypatch, act, why):
    monkeypatch.setattr("tests.fuzz.case.SECONDS", 0.05)
    verdict = judged(Case("x", {}, act, lambda: [2]), tmp_path / "case")
    assert verdict.result == "failed"
    assert pytest.importorskip("re").match(why, verdict.why), verdict.why


def test_what_the_reference_refuses_must_not_be_read(tmp_path):
    def refuse():
        raise reference.Refused("no")

    verdict = judged(Case("x", {}, lambda folder: 1, refuse), tmp_path / "case")
    assert verdict.why == "read what the reference refuses (no): 1"
    assert judged(Case("x", {"a": None}, lambda f: files.read_bytes(f / "a")), tmp_path / "c") == (
        "refused",
        f"{tmp_path / 'c' / 'a'}: a named pipe is here; it must be a file.",
    )


def test_a_reader_that_loses_a_row_is_found(tmp_path, monkeypatch):
    from metajax.data import datasets

    right = datasets.read

    def wrong(*arguments, **options):
        found = right(*arguments, **options)
        log = found.interactions
        return found._replace(interactions=log._replace(time=log.time + (log.time > 10)))

    monkeypatch.setattr(datasets, "read", wrong)
    rng = random.Random(0)
    verdicts = [judged(log_case(rng), tmp_path / "case") for _ in range(40)]
    assert sum(v.why.startswith("wrong read") for v in verdicts) >= 3


LINES = b'<http://x/a> <x:y> _:b0 .\r_:b0 <x:y> "a\\u00e9"@en . # end\n\n#\n'


def test_the_reference_reads_what_the_standards_say():
    assert reference.n_triples(LINES) == (
        [("http://x/a", "x:y", "_:b0")],
        [("_:b0", "x:y", "aé")],
    )
    for wrong in (
        b"<a> <b> <c>",
        b"<< <a> <b> <c> >> <d> <e> .",
        b'"a" <b> <c> .',
        b"<a b> <c> <d> .",
    ):
        with pytest.raises(reference.Refused):
            reference.n_triples(wrong)
    columns = {"user": "u", "item": "i", "rating": "r", "time": "t"}
    text = b'u,i,r,t\n"a\n""b",1, 2 ,2020-01-01\nc,001,3.5,1970-01-01T00:00:01+00:00\nd,e,nan,1\n'
    assert reference.quoted_log(text, ",", columns) == [
        ('a\n"b', "1", 2.0, 1577836800),
        ("c", "001", 3.5, 1),
    ]
    with pytest.raises(reference.Refused, match="end of data"):
        reference.quoted_log(b'u,i\na,b\nc,"d\ne,f\n', ",", {"user": "u", "item": "i"})
    assert reference.json_log(b'[{"u": 1, "i": "a"}]', {"user": "u", "item": "i"}) == [
        ("1", "a", 1.0, 0)
    ]
    assert reference.triples(b"a\tb\tc\r\n", header=None) == [("a", "b", "c")]

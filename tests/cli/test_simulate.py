import json

import pytest

from metajax import cli


def run(capsys, *arguments):
    status = cli.main(["simulate", *map(str, arguments)])
    return status, *capsys.readouterr()


TINY = ("--policies", "linear_thompson", "--starts", "content", "--rounds", "3")


@pytest.mark.slow
def test_a_simulation_prints_a_table_and_writes_records_and_a_page(capsys, tmp_path):
    path, page = tmp_path / "days.json", tmp_path / "days.html"
    size = ("--world-users", 20, "--world-items", 12, "--seeds", 2, "--first-seed", 4)
    size = (*size, "--refit-every", 2)
    status, out, err = run(capsys, *TINY, *size, "--json", path, "--page", page)
    assert status == 0
    assert "linear_thompson" in out
    assert "worse than greedy" in out
    assert "Simulating 6/6" in err
    records = json.loads(path.read_text())
    assert {r["policy"] for r in records} == {"greedy", "linear_thompson"}
    assert all(r["seeds"] == [4, 5] for r in records)
    text = page.read_text()
    assert "refit every" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text.count("<svg") == 3
    assert "4, 5" in text


def test_people_of_a_log_are_replayed(capsys, small):
    status, out, _ = run(capsys, "--data", small, *TINY, "--fold", 1)
    assert status == 0
    assert "A catalogue with content features, no data" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "gredy"], "did you mean 'greedy'?"),
        (["--starts", "nowhere"], "starts"),
        (["--rounds", "0"], "rounds must be >= 1, got 0."),
        (["--world-users", "0"], "users must be >= 1, got 0."),
        (["--new-items", "1.5"], "new_items must be in [0, 1), got 1.5."),
        (["--seeds", "0"], "seeds must be >= 1, got 0."),
        (["--refit-every", "0"], "refit-every must be >= 1, got 0."),
        (["--first-seed", "-1"], "first-seed must be >= 0, got -1."),
        (["--fold", "2"], "fold is of a log"),
        (["--data", "ml-100k", "--world-users", "5"], "world-users is of the synthetic world"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    line = err.strip().splitlines()[-1]
    assert line.startswith("metajax: ")
    assert message in line

"""`metajax graph` as a person types it."""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import threading
import time

import pytest

from metajax import cli
from metajax.data import datasets
from metajax.data.fetch import DataUnavailable
from metajax.runs import graph as graph_runs

KG = "head_id:token\trelation_id:token\ttail_id:token\n"
LINK = "item_id:token\tentity_id:token\n"


@pytest.fixture
def inspect(capsys, tmp_path):
    """Writes files and inspects the first; returns the exit status and what was printed."""

    def inspect(files, *options):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        first = tmp_path / next(iter(files))
        options = [str(option).replace("DIR", str(tmp_path)) for option in options]
        status = cli.main(["graph", str(first), *options])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.replace(str(tmp_path), "DIR")

    return inspect


def test_a_graph_is_summarised_by_relations_and_problems(inspect):
    status, out, _ = inspect({"a.kg": KG + "film\tgenre\tfun\nfilm\tgenre\tfun\nfilm\tby\ther\n"})
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["triples", "2"]
    assert ["genre", "1", "1", "1", "1"] in lines
    assert "  - 1 of 3 triples are repeated: line 3" in out


def test_long_names_are_not_cut(inspect):
    name = f"http://example.org/{'relation/' * 20}end"
    _, out, _ = inspect({"a.tsv": f"film\t{name}\tfun\n"})
    assert name in "".join(line.split()[0] for line in out.splitlines() if line.strip())


def test_brackets_are_no_markup(inspect, run, trained, tmp_path):
    status, out, err = inspect({"a.tsv": "film\t[/genre]\tfun\nfilm\t[by]\ther\n"})
    assert (status, err) == (0, "")
    assert {"[/genre]", "[by]"} <= {line.split()[0] for line in out.splitlines()}
    folder = shutil.copytree(trained, tmp_path / "[/run]")
    assert run("complete", folder, "--entity=film3", "--relation=genre")[0] == 0


def test_literals_are_attributes_on_request(inspect):
    file = {"a.ttl": "@prefix x: <http://x/> .\nx:a x:b x:c ; x:year 1979 .\n"}
    status, _, err = inspect(file)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("metajax: DIR/a.ttl: 1 literals where an entity is needed, the first ")
    assert "; --literals attributes keeps them as attributes." in err
    status, out, _ = inspect(file, "--literals=attributes")
    assert status == 0
    assert ["attributes", "1"] in [line.split() for line in out.splitlines()]


def test_links_are_checked_against_the_log(inspect, small):
    files = {"a.kg": KG + "film\tgenre\tfun\n", "a.link": LINK + "0\tfilm\n5\tfun\n"}
    status, out, _ = inspect(files, "--link=DIR/a.link", f"--data={small}")
    assert status == 0
    assert "28 of 30 items are linked to no entity: '1', '10', '11', '12', '13', ..." in out
    files["a.link"] = LINK + "x\tfilm\n"
    status, _, err = inspect(files, "--link=DIR/a.link", f"--data={small}")
    assert status == 2
    assert err == "metajax: links must be of items of the log, got 1 unknown: 'x'.\n"


def test_items_are_linked_by_a_prefix_of_their_ids(inspect, small):
    file = {"a.ttl": "@prefix f: <http://x/film/> .\nf:3 f:like f:17 .\n"}
    status, out, _ = inspect(file, "--item-prefix=http://x/film/", f"--data={small}")
    assert status == 0
    assert ["linked", "items", "2", "to", "2", "entities"] in [
        line.split() for line in out.splitlines()
    ]
    status, _, err = inspect(file, "--item-prefix=film:")
    assert status == 2
    assert err.startswith("metajax: no entity name starts with 'film:'; there are 'http://x/film/")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.ttl": "<a:b> <a:c>\n"}, "DIR/a.ttl, line 2, column 1: "),
        ({"a.ttl": ""}, "DIR/a.ttl: there is no triple."),
        (
            {"a.xls": ""},
            "DIR/a.xls: the name must end in one of .kg, .tsv, .txt, .csv, .ttl, ",
        ),
    ],
)
def test_a_mistake_is_one_line(inspect, files, message):
    status, out, err = inspect(files)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"metajax: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ml-10k"], "ml-10k: no such path, nor one of the names ml-100k; did you mean 'ml-100k'?"),
        (["ml-100k", "--link=x"], "--link belongs to a file; ml-100k has its own links."),
    ],
)
def test_names_are_distinguished_from_files(capsys, words, message):
    assert cli.main(["graph", *words]) == 2
    assert capsys.readouterr().err == f"metajax: {message}\n"


@pytest.fixture
def run(capsys):
    """Runs `metajax graph`; returns the exit status and what it printed, but progress."""

    def run(*arguments):
        status = cli.main(["graph", *map(str, arguments)])
        printed = capsys.readouterr()
        lines = [line for line in printed.err.splitlines() if not line.endswith(" ...")]
        return status, printed.out, "\n".join(line for line in lines if "Training" not in line)

    return run


QUICK = ["--share=0.1", "--width=4", "--margin=3", "--negatives=4", "--rate=0.05", "--batch=32"]


@pytest.fixture(scope="module")
def trained(films, tmp_path_factory):
    """The folder of a finished run, not to be written to."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    words = ["graph", "train", films, "--without=*award*", *QUICK, "--epochs=4", f"--run={folder}"]
    assert cli.main(list(map(str, words))) == 0
    return folder


def test_training_ends_with_a_table_and_the_next_command(run, films, tmp_path):
    folder = tmp_path / "a run"
    status, out, err = run(
        "train", films, "--without=*award*", *QUICK, "--epochs=4", "--run", folder
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert f"RotatE on {films}: 64 training triples, 8 validation, 8 test" in lines[0]
    assert lines[1] == (
        "Triples left out: 40 that repeat another in reverse, 40 that are of dropped relations."
    )
    found = json.loads((folder / "report.json").read_text())
    shown = {line.split()[0]: line.split()[1:] for line in lines if line}
    kinds = ("realistic", "optimistic", "pessimistic", "heads", "tails", "frequency")
    assert shown["MRR"] == [f"{found[kind]['mrr']:.3f}" for kind in kinds]
    assert {"hits@1", "hits@3", "hits@10", "AMRI"} <= shown.keys()
    assert any(line.startswith("16 queries, the head and the tail") for line in lines)
    program, *words = shlex.split(lines[-1].removeprefix("Next: "))
    assert program == "metajax"
    assert cli.main(words) == 0


def test_completion_ranks_missing_triples(run, trained):
    queried = ["complete", trained, "--entity=film3", "--relation=genre"]
    status, out, _ = run(*queried, "--top=3")
    assert status == 0
    first, *answers, last = out.splitlines()
    assert first == "film3 --genre--> ?"
    assert len(answers) == 3
    scores = [float(line.split()[0]) for line in answers]
    assert scores == sorted(scores, reverse=True)
    assert last == "1 known triples are left out; --known shows them."
    assert "genre0" not in out
    status, out, _ = run(*queried, "--top=99", "--known")
    assert [line.split()[2:] for line in out.splitlines() if "genre0" in line] == [["known"]]
    status, out, _ = run("complete", trained, "--entity=genre0", "--relation=genre", "--side=head")
    lines = out.splitlines()
    assert lines[0] == "? --genre--> genre0"
    assert lines[-1] == "14 known triples are left out; --known shows them."
    _, out, _ = run("complete", trained, "--entity=genre0", "--relation=genre", "--top=1")
    assert len(out.splitlines()) == 2


def test_a_split_in_files_is_kept_and_labels_name_entities(run, tmp_path):
    label = "http://www.w3.org/2000/01/rdf-schema#label"
    lines = [f"<a:{n}> <a:like> <a:{(n + 3) % 8}> .\n" for n in range(8)]
    lines += [f'<a:{n}> <{label}> "Film {n}" .\n' for n in range(8)]
    source = tmp_path / "films"
    source.mkdir()
    (source / "train.nt").write_text("".join([*lines, f'<a:like> <{label}> "is like" .\n']))
    (source / "test.nt").write_text("<a:0> <a:like> <a:1> .\n<a:0> <a:like> <a:new> .\n")
    folder = tmp_path / "run"
    words = [*QUICK[1:], "--epochs=2", f"--run={folder}"]
    status, out, err = run("train", source, *words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert f"RotatE on {source}: 8 training triples, 0 validation, 1 test" in lines[0]
    assert lines[1] == "Triples left out: 1 that have a name without a training triple."
    queried = ["complete", folder, "--entity=film 3", "--relation=is like", "--top=1"]
    status, out, err = run(*queried)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "a:3 (Film 3) --a:like--> ?"
    assert " (Film " not in out.splitlines()[1]
    assert "  Film " in out.splitlines()[1]
    status, _, err = run("train", source, *QUICK)
    assert status == 2
    assert "share must be left out, because" in err


def test_all_triples_can_be_trained_on(run, films, tmp_path):
    words = ["--share=0", *QUICK[1:], "--epochs=1", f"--run={tmp_path / 'run'}"]
    status, out, err = run("train", films, *words)
    assert (status, err) == (0, "")
    assert "120 training triples, 0 validation, 0 test" in out
    assert "Trained on all triples: none is left to rank." in out
    assert run(*shlex.split(out.splitlines()[-1].removeprefix("Next: metajax graph ")))[0] == 0


def test_items_have_their_titles(run, small, films, tmp_path, monkeypatch):
    link = tmp_path / "films.link"
    link.write_text(LINK + "".join(f"{n}\tfilm{n}\n" for n in range(30)))
    folder = tmp_path / "run"
    words = [f"--link={link}", "--without=*award*", *QUICK, "--epochs=1", f"--run={folder}"]
    assert run("train", films, *words)[0] == 0
    queried = ["--entity=genre0", "--relation=genre", "--side=head", "--top=99", f"--data={small}"]
    _, out, _ = run("complete", folder, *queried)
    result = [line.split(maxsplit=2)[1:] for line in out.splitlines()]
    assert ["film4", "Film 4"] in result
    assert ["film31"] in result
    for name in ("Film 4", "film 4", "film4"):
        _, out, _ = run("complete", folder, f"--entity={name}", "--relation=genre", queried[-1])
        assert out.splitlines()[0] == "film4 (Film 4) --genre--> ?"
    status, _, err = run("complete", folder, "--entity=Fim 4", "--relation=genre", queried[-1])
    assert status == 2
    assert err.startswith("metajax: no item has the title or id 'Fim 4'; nearest are 'Film 4', ")
    (tmp_path / "log.csv").write_text("user,item\nu,3\n")
    status, _, err = run("complete", folder, *queried[:2], f"--data={tmp_path / 'log.csv'}")
    assert (status, err) == (
        2,
        "metajax: links must be of items of the log, got 29 unknown: '0', '1', '2', '4', '5', ....",
    )

    # A graph that goes by the name of a data set has the titles of that, where it can be had.
    opened = graph_runs.open_run
    named = dataclasses.replace(opened(folder).settings, source="ml-100k")
    monkeypatch.setattr(
        graph_runs, "open_run", lambda folder: opened(folder)._replace(settings=named)
    )
    load, queried = datasets.load, ["--entity=film4", "--relation=genre"]
    monkeypatch.setattr(datasets, "load", lambda name, progress: load(small))
    _, out, _ = run("complete", folder, *queried)
    assert out.splitlines()[0] == "film4 (Film 4) --genre--> ?"

    def unavailable(name, progress):
        raise DataUnavailable("no network.")

    monkeypatch.setattr(datasets, "load", unavailable)
    status, out, err = run("complete", folder, *queried)
    assert (status, err) == (0, "metajax: titles are left out: no network.")
    assert out.splitlines()[0] == "film4 --genre--> ?"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--entity=fim3", "--relation=genre"], "no entity 'fim3'; did you mean 'film3'?"),
        (["--entity=film3", "--relation=gener"], "no relation 'gener'; did you mean 'genre'?"),
        (["--entity=film3", "--relation=award"], "no relation 'award'; did you mean 'award_won'?"),
        (["--entity=genre", "--relation=genre"], "no entity 'genre'; did you mean 'genre2'?"),
        (
            ["--entity=film3", "--relation=award_won"],
            "relation 'award_won' has no training triple, and so no embedding.",
        ),
        (
            ["--entity=prize1", "--relation=genre"],
            "entity 'prize1' has no training triple, and so no embedding.",
        ),
        (
            ["--entity=person1", "--relation=directed"],
            "relation 'directed' is the inverse of 'director': query that with --side head.",
        ),
        (["--entity=film3", "--relation=genre", "--top=0"], "top must be >= 1, got 0."),
        (
            ["--entity=film3", "--relation=genre", "--top=2.5"],
            "command line: top must be a whole number, got 2.5.",
        ),
        (
            ["--entity=film3", "--relation=genre", "--data=log.csv"],
            "--data names items, and no entity of DIR is one; got log.csv.",
        ),
    ],
)
def test_an_invalid_query_is_one_line(run, trained, words, message):
    message = message.replace("DIR", str(trained))
    assert run("complete", trained, *words) == (2, "", f"metajax: {message}")


@pytest.mark.parametrize("words", [["evaluate"], ["recommend"], ["train", "--resume"]])
def test_other_commands_refuse_a_run_on_a_graph(capsys, trained, words):
    assert cli.main([*words, str(trained)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"metajax: {trained}: this is a run on a graph: use metajax graph complete."
    )


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({"a.ttl": "<a:b> <a:c>\n"}, [], "DIR/a.ttl, line 2, column 1: "),
        ({"a.ttl": '<a:b> <a:c> "1979" .\n'}, [], "DIR/a.ttl: 1 literals where an entity is neede"),
        ({"a.ttl": '<a:b> <a:c> "1979" .\n'}, ["--literals=attributes"], "DIR/a.ttl: there is no"),
        ({"a.kg": KG}, [], "DIR/a.kg: there is no triple."),
        ({"a.kg": KG + "a\tr\tb\n"}, ["--without=*"], "a graph must have at least one triple, got"),
        (
            {"a.kg": KG + "a\tr\tb\n"},
            [],
            "share must leave a triple of every entity and relation in ",
        ),
        (
            {"a.kg": KG + "a\tr\tb\n", "a.link": LINK + "".join(f"{n}\tx{n}\n" for n in range(7))},
            ["--link=DIR/a.link"],
            "DIR/a.link: links must point to entities of the graph, got 7 unknown: 'x0', 'x1', "
            "'x2', 'x3', 'x4', ...",
        ),
        ({"a.tsv": "a\tr\tb\n"}, ["--width=0"], "width must be >= 1, got 0."),
        ({"a.tsv": "a\tr\tb\n"}, ["--rate=0"], "rate must be > 0, got 0.0."),
        (
            {"a.tsv": "a\tr\tb\n"},
            ["--epochs=2.5"],
            "command line: epochs must be a whole number, g",
        ),
        ({"a.tsv": "a\tr\tb\n"}, ["--without=x"], "no relation matches 'x'; there are 'r'."),
    ],
)
def test_a_graph_that_cannot_be_trained_on_is_one_line(
    run, tmp_path, monkeypatch, files, words, message
):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    words = [word.replace("DIR", str(tmp_path)) for word in words]
    status, out, err = run("train", tmp_path / next(iter(files)), *words)
    assert (status, out, err.count("\n")) == (2, "", 0)
    assert err.replace(str(tmp_path), "DIR").startswith(f"metajax: {message}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "source must be the name of a graph, or a file; got none."),
        (["train", "ml-100k", "--link=x"], "--link belongs to a file; ml-100k has its own links."),
        (
            ["train", "--resume=nothing"],
            "nothing: no run on a graph is here (there is no graph.json).",
        ),
        (
            ["train", "--resume=a", "--run=b"],
            "--resume writes to a, so --run must be left out, got b.",
        ),
        (
            ["complete", "nothing", "--entity=a", "--relation=b"],
            "nothing: no run on a graph is here (there is no graph.json).",
        ),
    ],
)
def test_a_folder_without_a_run_is_one_line(run, words, message):
    assert run(*words) == (2, "", f"metajax: {message}")


def test_diverging_embeddings_name_the_last_good_checkpoint(run, films, tmp_path):
    folder = tmp_path / "run"
    words = [word for word in QUICK if "rate" not in word]
    status, _, err = run("train", films, *words, "--rate=1e6", f"--run={folder}")
    assert (status, err.count("\n")) == (2, 0)
    assert err.startswith("metajax: the largest number of an embedding (at most 1.25e+03 is sound)")
    assert err.endswith(f"The last good checkpoint is of update 0, in {folder / 'checkpoints'}.")
    # Nothing but the first embeddings is there.
    assert run("complete", folder, "--entity=film3", "--relation=genre") == (
        2,
        "",
        f"metajax: {folder}: no epoch has been validated yet. Resume: metajax graph train "
        f"--resume {folder}",
    )


def test_a_signal_during_ranking_loses_nothing(run, trained, monkeypatch):
    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(graph_runs, "judge", interrupted)
    status, _, err = run("train", "--resume", trained)
    assert (status, err) == (
        143,
        f"metajax: stopped; the run is saved. Rank: metajax graph train --resume {trained}",
    )


def test_a_signal_saves_and_prints_how_to_resume(run, films, tmp_path):
    folder = tmp_path / "run"

    def interrupt():
        while not (folder / "checkpoints" / "00000020").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    long = ["--without=*award*", "--epochs=100000", "--patience=100000"]
    status, _, err = run("train", films, *QUICK, *long, f"--run={folder}")
    thread.join()
    assert status == 143
    assert f"Resume: metajax graph train --resume {folder}" in err
    status, _, err = run("train", "--resume", folder, "--rate=0.5")
    assert (status, err) == (
        2,
        f"metajax: --resume continues with the settings of {folder}; give no others.",
    )

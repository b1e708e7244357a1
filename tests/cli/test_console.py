from metajax import steps
from metajax.cli import console
from metajax.evaluation.closed_forms import Trial
from metajax.training import Row


def test_a_download_is_announced_once_on_standard_error(capsys):
    with console.fetching("ml-100k") as progress:
        progress(0, None)
        progress(10, 10)
    assert capsys.readouterr() == ("", "Fetching ml-100k ...\n")


def test_without_a_download_nothing_is_printed(capsys):
    with console.fetching("ml-100k"):
        pass
    assert capsys.readouterr() == ("", "")


def row(step, validation):
    return Row(step, 1.0, 0.1, validation)


def test_the_bar_ends_where_early_stopping_does(capsys, monkeypatch):
    monkeypatch.setattr(console, "_SECONDS", 0.0)
    losses = {50: 0.9, 100: 0.8, 150: 0.85, 200: 0.8, 250: None}
    with console.training(500, 4, patience=100) as on_row:
        for step, loss in losses.items():
            on_row(row(step, loss))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("Meta-training 250/250")
    assert lines[-1].endswith("early stopping, of 500 updates")
    # Equal is no improvement; the last validation at update 200 ended it.
    assert lines[-2].startswith("Meta-training 200/200")
    assert lines[-3].startswith("Meta-training 150/500")
    with console.training(500, 4, start=200, best=0.5, best_step=150, patience=100) as on_row:
        on_row(row(250, 0.6))
    assert "early stopping" in capsys.readouterr().err
    with console.training(100, 4, patience=50) as on_row:
        on_row(row(50, 0.6))
        on_row(row(100, 0.7))
    assert "early stopping" not in capsys.readouterr().err


def test_pretraining_has_a_scale_once_it_takes_long(capsys, monkeypatch):
    with console.preparing("Pretraining"):
        assert list(steps.counted("EM", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == "Pretraining ...\n"
    monkeypatch.setattr(console, "_SECONDS", 0.0)
    with console.preparing("Pretraining"):
        for _ in steps.counted("EM", 2):
            pass
        for _ in steps.counted("maps", 1):
            pass
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == [
        "Pretraining ...",
        "Pretraining, EM 0/2",
        "Pretraining, EM 1/2",
        "Pretraining, EM 2/2",
        "Pretraining, maps 0/1",
        "Pretraining, maps 1/1",
    ]
    list(steps.counted("EM", 2))  # Nobody listens any more.
    assert capsys.readouterr().err == ""


def test_a_bar_of_a_closed_form_shows_the_work_inside_a_setting(capsys, monkeypatch):
    monkeypatch.setattr(console, "_SECONDS", 0.0)
    with console.trials(3) as on_trial:
        list(steps.counted("EM", 1))
        on_trial(Trial(1, 0.5, {}))
        list(steps.counted("EM", 1))
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "Fitting 0/3 best - EM 0/1"
    assert lines[2] == "Fitting 1/3 best 0.5000"
    assert lines[-1] == "Fitting 1/3 best 0.5000 EM 1/1"

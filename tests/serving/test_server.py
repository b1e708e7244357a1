import pytest

from metajax.cli.app import main
from metajax.serving import server
from metajax.serving.scoring import scorer_of


def test_mistakes_are_one_line(model, tmp_path, capsys):
    key, short = tmp_path / "key", tmp_path / "short"
    key.write_text("k" * 20 + "\n")
    short.write_text("k")
    assert server.key_of(key) == "k" * 20
    log = f"sqlite:///{tmp_path / 'events.db'}"
    broken = tmp_path / "broken"
    broken.mkdir()
    for arguments, why in (
        ([str(model), "--host", "0.0.0.0"], "needs a key"),
        ([str(model), "--api-key-file", str(short)], "16 or more"),
        ([str(model), "--api-key-file", str(tmp_path / "none")], "none"),
        ([str(model), "--events", "mysql://x"], "sqlite:///FILE"),
        ([str(model), "--port", "70000"], "65535"),
        ([str(model), "--host", "203.0.113.1", "--api-key-file", str(key)], "cannot be listened"),
        ([str(broken), "--port", "0", "--events", log], "no model is here"),
        ([str(model), "--port", "0", "--events", "sqlite:////none/events.db"], "folder"),
    ):
        assert main(["serve", *arguments]) == 2, arguments
        said = capsys.readouterr()
        assert why in said.err, arguments
        assert [line for line in said.err.splitlines() if "note:" not in line][1:] == []


def test_a_policy_that_the_model_lacks_is_refused(model):
    with pytest.raises(ValueError, match="no policy 'gredy'; did you mean 'greedy'"):
        scorer_of(model, policies=("gredy",))

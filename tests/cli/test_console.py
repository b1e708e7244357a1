from metajax.cli import console


def test_a_download_is_announced_once_on_standard_error(capsys):
    with console.fetching("ml-100k") as progress:
        progress(0, None)
        progress(10, 10)
    assert capsys.readouterr() == ("", "Fetching ml-100k ...\n")


def test_without_a_download_nothing_is_printed(capsys):
    with console.fetching("ml-100k"):
        pass
    assert capsys.readouterr() == ("", "")

"""The data sets of GroupLens by name, from a server with archives of the same structure."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from metajax.data import datasets, fetch
from metajax.data.datasets import load
from metajax.data.fetch import DataUnavailable, Source
from metajax.data.readers import DataError, movielens, read
from metajax.data.readers.movielens import read_movielens
from metajax.data.schema import fit_schema

DAT = {
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
    "movies.dat": "7::Amélie, The (2001)::Comedy|Romance\n10::GoldenEye (1995)::Action\n",
    "ratings.dat": "2::7::4::978300760\n1::10::3::978302109\n2::10::5::978301968\n",
}
TAGS = "5::7::Paris::1\n6::7::paris::2\n6::7::a::b::3\n7::7::of many words, much too long::4\n"
CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,7,4.5,10\n2,10,0.5,20\n2,7,3.0,30\n",
    "movies.csv": 'movieId,title,genres\n7,"Amélie, The (2001)",Comedy|Romance\n'
    "10,GoldenEye,(no genres listed)\n",
    "tags.csv": 'userId,movieId,tag,timestamp\n1,7,"Paris, France",1\n2,7,quirky,2\n1,7,Quirky,3\n',
    "links.csv": "movieId,imdbId,tmdbId\n10,0113189,\n7,0211915,194\n",
}


def archive(folder: str, files: dict[str, str], encoding: str = "utf-8") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, text in files.items():
            packed.writestr(f"{folder}/{name}", text.encode(encoding))
    return content.getvalue()


ARCHIVES = {
    "ml-1m": archive("ml-1m", DAT, "latin-1"),
    "ml-10m": archive(
        "ml-10M100K", {n: t for n, t in DAT.items() if n != "users.dat"} | {"tags.dat": TAGS}
    ),
    **{name: archive(name, CSV) for name in ("ml-latest-small", "ml-20m", "ml-25m", "ml-32m")},
}


class Server:
    """A server of `ARCHIVES` and their md5 files, of which the next `breaks` answers break off."""

    def __init__(self):
        self.breaks = 0
        self.ranges: list[str | None] = []
        self.understands_ranges = True
        self.spoiled = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.strip("/").removesuffix(".md5").removesuffix(".zip")
                body, asked = ARCHIVES[name], self.headers.get("Range")
                if self.path.endswith(".md5"):
                    digest = hashlib.md5(body).hexdigest().upper()
                    body, asked = f"MD5 ({name}.zip) = {digest}\n".encode(), None
                else:
                    server.ranges.append(asked)
                    body = bytes(len(body)) if server.spoiled else body
                start = int(asked[6:-1]) if asked and server.understands_ranges else 0
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    last = len(body) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                if server.breaks and not self.path.endswith(".md5"):
                    server.breaks -= 1
                    body = body[: start + 100]
                self.wfile.write(body[start:])

            def log_message(self, format, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
    for name, body in ARCHIVES.items():
        source = source_of(name)
        digest = source.digest and hashlib.md5(body).hexdigest()
        local = source._replace(address=f"{running.url}/{name}.zip", digest=digest)
        monkeypatch.setitem(datasets._DATASETS, name, (local,))
    yield running
    running.http.shutdown()
    thread.join()
    running.http.server_close()


def source_of(name: str) -> Source:
    entry = datasets._DATASETS[name]
    assert isinstance(entry, tuple)
    return entry[0]


def row_of(table, item: str) -> dict[str, str]:
    at = table.ids.tolist().index(item)
    return {name: str(column[at]) for name, column in table.columns.items()}


def test_the_addresses_and_digests_are_those_that_grouplens_publishes():
    for name in ARCHIVES:
        source = source_of(name)
        assert source.address == f"https://files.grouplens.org/datasets/movielens/{name}.zip"
        assert source.digest is None or len(source.digest) == 32
    assert [n for n in ARCHIVES if source_of(n).digest is None] == ["ml-latest-small"]


def test_each_set_has_its_features(server):
    film = {"title": "The Amélie", "year": "2001", "genres": "Comedy Romance"}
    one, ten = load("ml-1m"), load("ml-10m")
    assert (one.scale, ten.scale) == ((1.0, 5.0), (1.0, 5.0))
    assert row_of(one.users, "2") == {
        "age": "56",
        "gender": "M",
        "occupation": "16",
        "zip_code": "70072",
    }
    assert row_of(one.items, "7") == film
    assert ten.users.columns == {}
    # What is frequent stands first, and what is long is no tag.
    assert row_of(ten.items, "7") == film | {"tags": "paris, a::b"}
    for name in ("ml-latest-small", "ml-20m", "ml-25m", "ml-32m"):
        found = load(name)
        linked = {"tags": "quirky, paris france", "imdb_id": "0211915", "tmdb_id": "194"}
        assert row_of(found.items, "7") == film | linked
        assert row_of(found.items, "10")["tmdb_id"] == ""
        assert found.scale == (0.5, 5.0)
        assert found.notes == ()
        np.testing.assert_array_equal(found.interactions.rating, [4.5, 0.5, 3.0])
        # Written by people who may be held out, or no description: not encoded.
        fields = fit_schema(found.items, np.arange(2)).fields
        assert {field.name for field in fields if field.kind != "text"} == {"year", "genres"}


@pytest.mark.parametrize("understands", [True, False])
def test_a_broken_download_goes_on_where_it_broke(server, tmp_path, understands):
    # Without ranges every connection begins anew.
    server.breaks, server.understands_ranges, seen = 3 if understands else 1, understands, []
    size = len(ARCHIVES["ml-25m"])
    load("ml-25m", progress=lambda done, total: seen.append((done, total)))
    starts = [100, 200, 300] if understands else [100]
    assert server.ranges == [None, *(f"bytes={start}-" for start in starts)]
    assert seen[-1] == (size, size)
    assert [file.name for file in tmp_path.iterdir()] == ["ml-25m.zip"]


def test_the_next_process_goes_on_where_the_last_one_broke(server, tmp_path, monkeypatch):
    server.breaks = 1
    monkeypatch.setattr(fetch, "_CONNECTIONS", 1)
    with pytest.raises(DataUnavailable, match=r"ended after 100 of [\d,]+ bytes"):
        load("ml-1m")
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [100]
    load("ml-1m")
    assert server.ranges == [None, "bytes=100-"]
    # The rest of another file than today's is fetched whole; so is one that was whole and wrong.
    digest = source_of("ml-20m").digest
    assert digest is not None
    part = tmp_path / f".ml-20m.zip.{digest[:8]}.part"
    for old in (b"old", bytes(10_000)):
        (tmp_path / "ml-20m.zip").unlink(missing_ok=True)
        part.write_bytes(old)
        assert len(load("ml-20m").interactions.item) == 3
        assert not part.exists()


def test_commas_are_no_separators_of_a_log_with_colons(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::7::4::10\n1,7,4,10\n")
    with pytest.raises(DataError, match=r"ratings\.dat, line 2"):
        read(tmp_path)


def test_100k_is_latin_1_even_where_its_bytes_are_utf_8(tmp_path):
    (tmp_path / "u.data").write_bytes("é\t7\t4\t10\nu\t7\t3\t10\n".encode())
    assert read(tmp_path).interactions.user_ids.tolist() == ["u", "Ã©"]


def test_a_wrong_file_is_refused_by_its_published_digest(server, tmp_path):
    server.spoiled = True
    for name in ("ml-32m", "ml-latest-small"):
        with pytest.raises(DataUnavailable, match="with a wrong md5"):
            load(name)
    assert [file.name for file in tmp_path.iterdir()] == ["ml-latest-small.zip.md5"]


def test_the_digest_that_is_published_with_the_file_is_cached_with_it(server, tmp_path):
    load("ml-latest-small")
    server.http.shutdown()
    load("ml-latest-small")
    file = tmp_path / "ml-latest-small.zip"
    file.write_bytes(file.read_bytes() + b"\0")
    source = Source("file:///nowhere.zip", None, "ml-latest-small.zip", read_movielens)
    with pytest.raises(DataUnavailable, match=r"nowhere.zip.md5 at .*ml-latest-small.zip.md5") as e:
        fetch.read_cached("ml-latest-small", [source])
    assert "ml-latest-small.zip is not as published" in str(e.value)


LOGS = {
    "as published": "1,7,4.5,10\n2,10,0.5,20\n12,7,3.0,30\n",
    "without the last newline": "1,7,4.5,10\n2,10,0.5,20",
    "of an editor on Windows": "1,7,4.5,10\r\n2,10,0.5,20\r\n",
    "ids that are no numbers": "1,tt7,4.5,10\n2,tt10,0.5,20\n",
    "ids with zeros": "001,7,4.5,10\n1,7,0.5,20\n",
    "quoted": '1,"7",4.5,10\n2,10,0.5,20\n',
    "a missing rating": "1,7,,10\n2,10,0.5,20\n",
    "a rating that is none": "1,7,inf,10\n2,10,0.5,20\n",
    "a field too few": "1,7,4.5,10\n2,10,20\n",
    "a blank line": "1,7,4.5,10\n\n2,10,0.5,20\n",
    "a time with a fraction": "1,7,4.5,10.0\n2,10,0.5,20\n",
    "a rating off the scale": "1,7,4.5,10\n2,10,5.5,20\n",
    "a pair twice": "1,7,4.5,10\n1,7,0.5,20\n",
    "a comment": "1,7,4.5,10 # good\n2,10,0.5,20\n",
    "spaces of other alphabets": "\x851,7,4.5,10\n2,\xa010,0.5,20\n",
    "a power of ten": "1,7,45e-1,10\n2,10,0.5,20\n",
    "no row": "",
}


@pytest.mark.parametrize("separator", [",", "::"])
@pytest.mark.parametrize("rows", LOGS.values(), ids=list(LOGS))
def test_numbers_are_read_as_the_table_of_texts_is(tmp_path, monkeypatch, rows, separator):
    if separator == ",":
        (tmp_path / "movies.csv").write_text(CSV["movies.csv"], encoding="utf-8")
        text, name = f"userId,movieId,rating,timestamp\n{rows}", "ratings.csv"
    else:
        text, name = rows.replace(",", "::"), "ratings.dat"
    encoding = "utf-8" if separator == "," else "latin-1"
    (tmp_path / name).write_text(text, encoding=encoding, newline="")

    def outcome():
        try:
            return read(tmp_path)
        except DataError as error:
            return str(error)

    fast = outcome()
    read_fast = movielens._numeric_log
    monkeypatch.setattr(movielens, "_numeric_log", lambda *arguments: None)
    slow = outcome()
    if isinstance(slow, str):
        assert fast == slow
    else:
        assert not isinstance(fast, str)
        for one, other in zip(fast.interactions, slow.interactions, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert (fast.scale, fast.notes) == (slow.scale, slow.notes)
    if rows == LOGS["as published"]:
        header = None if separator == "," else movielens._LOG
        options = datasets.Reading()
        assert read_fast(text.encode(), "file", separator, header, options) is not None

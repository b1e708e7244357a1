"""Reader of MovieLens in the three layouts of GroupLens: 100K, 1M and 10M, and CSV.

Reference: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.readers.assembly import (
    Log,
    Roles,
    assemble,
    check_unused,
    description,
    find_roles,
    log_of,
    unused_note,
)
from metajax.data.readers.contents import contents_of, members_of
from metajax.data.readers.text import (
    DataError,
    TextTable,
    decode_lines,
    delimited,
    number_of,
    parsed,
    quoted,
)
from metajax.data.reading import Reading
from metajax.files import check_file, read_bytes

__all__ = ["ITEM_KINDS", "USER_KINDS", "is_movielens", "read_movielens", "title_and_year"]

USER_KINDS: dict[str, Kind] = {
    "age": "numeric",
    "gender": "categorical",
    "occupation": "categorical",
    "zip_code": "text",
}
"""Kinds of the attributes of users."""
ITEM_KINDS: dict[str, Kind] = {"title": "text", "year": "numeric", "genres": "tokens"}
"""Kinds of the attributes of films."""
# Of the layouts that have them. Text, which is not encoded: ids are no features, and tags are
# written by users, among them those who are held out.
_TAGS: dict[str, Kind] = {"tags": "text"}
_LINKS: dict[str, Kind] = {"imdb_id": "text", "tmdb_id": "text"}
_MOST_TAGS = 8
_LONGEST_TAG = 24  # letters; a longer one is a comment

# The order of the flags in u.item, from u.genre.
# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)
# fmt: on

_NAMES = ("u.data", "ratings.dat", "ratings.csv", "movies.csv")
_LOG = ("user_id", "item_id", "rating", "timestamp")

# "Postino, Il (The Postman)" is catalogued under P; a person types "Il Postino".
_ARTICLE = re.compile(
    r"\b([^(),]+(?:, [^(),]+)*?), (The|An?|Les|La|Le|L'|Il|El|Los|Las|Das|Der|Die|Det)(?=$|\)| \()"
)

Open = Callable[[str], tuple[bytes, str] | None]


def is_movielens(path: Path) -> bool:
    """True for a folder or zip archive with the files of MovieLens, and for its u.data alone.

    Raises:
        DataError: If it is a zip archive that cannot be read.
    """
    if path.is_dir():
        names = {name for name in _NAMES if (path / name).is_file()}
    elif path.suffix.lower() == ".zip":
        names = {name.rpartition("/")[2] for name in members_of(path)}
    else:
        return path.name in ("u.data", "ratings.dat")
    return bool(names & {"u.data", "ratings.dat"}) or names >= {"ratings.csv", "movies.csv"}


def read_movielens(path: str | Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008
    """Reads MovieLens as GroupLens publishes it.

    Users have age, gender, occupation and zip_code where the layout has them; items have title
    (article first, without the year), year and genres. Where there are files of them, items have
    `tags` as well, the eight most frequent with a comma between them, and `imdb_id` and `tmdb_id`;
    these are text, which methods do not see.

    Args:
        path: A folder or zip file with `u.data` (100K), `ratings.dat` (1M, 10M) or `ratings.csv`
            (the later ones). With it u.user and u.item, users.dat and movies.dat, or
            movies.csv, tags.dat or tags.csv, and links.csv, where there are any. Or `u.data` or
            `ratings.dat` itself.
        reading: Options but those of columns and text; no scale means 1 to 5, or 0.5 to 5 where
            the log has half stars.

    Returns:
        The data set, named by its path.

    Raises:
        DataError: If a file is missing or not as described; it names file, line and column.
    """
    place = Path(path)
    open_file = _opener(place.parent if place.name in ("u.data", "ratings.dat") else place)
    for layout in (_layout_100k, _layout_dat, _layout_csv):
        found = layout(open_file, reading)
        if found is not None:
            break
    else:
        raise DataError("looked for u.data, ratings.dat or ratings.csv, found none.", file=path)
    log, users, items = found
    scale = None
    if log.rating is not None:
        scale = (0.5, 5.0) if (log.rating % 1 != 0).any() else (1.0, 5.0)
    return assemble(str(path), log, users=users, items=items, reading=reading, scale=scale)


def title_and_year(text: str) -> tuple[str, str]:
    """Takes the year off a title and puts its article first.

    Example:
        >>> title_and_year("Usual Suspects, The (1995)")
        ('The Usual Suspects', '1995')
        >>> title_and_year("Land Before Time III (1995) (V)")
        ('Land Before Time III', '1995')
        >>> title_and_year("Horseman on the Roof, The (Hussard sur le toit, Le) (1995)")
        ('The Horseman on the Roof (Le Hussard sur le toit)', '1995')
        >>> title_and_year("unknown")
        ('unknown', '')
    """
    match = re.fullmatch(r"(.*?)\s*\((\d{4})\)(?:\s*\(V\))?", text.strip())
    title, year = match.groups() if match else (text.strip(), "")
    return _ARTICLE.sub(_article_first, title), year


def _article_first(match: re.Match[str]) -> str:
    title, article = match.groups()
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{title}"


def _opener(path: Path) -> Open:
    if path.is_dir():

        def from_folder(name: str) -> tuple[bytes, str] | None:
            file = path / name
            return (read_bytes(file), str(file)) if file.exists() else None

        return from_folder
    check_file(path)
    contents = contents_of(path)

    def from_zip(name: str) -> tuple[bytes, str] | None:
        found = [one for one in contents if one.name.rpartition("/")[2] == name]
        return (found[0].read(), found[0].name) if found else None

    return from_zip


Layout = tuple[Log, Table | None, Table | None]


def _layout_100k(open_file: Open, reading: Reading) -> Layout | None:
    log = _delimited(open_file, "u.data", "\t", _LOG)
    if log is None:
        return None
    users = _delimited(open_file, "u.user", "|", ("id", *USER_KINDS))
    items = _delimited(
        open_file, "u.item", "|", ("id", "title", "released", "video", "url", *_GENRES)
    )
    if items is not None:
        flags = zip(*(items.columns[genre] for genre in _GENRES), strict=True)
        genres = [
            " ".join(g for g, flag in zip(_GENRES, row, strict=True) if flag == "1")
            for row in flags
        ]
        items = _with_titles(items, genres)
    return (
        log_of(log, find_roles(log.file, _LOG), reading),
        None if users is None else description(users, "id", USER_KINDS),
        None if items is None else description(items, "id", ITEM_KINDS),
    )


def _layout_dat(open_file: Open, reading: Reading) -> Layout | None:
    found = open_file("ratings.dat")
    if found is None:
        return None
    log = _numeric_log(*found, "::", _LOG, reading)
    if log is None:
        table = delimited(*found, "::", header=_LOG, encoding="latin-1")
        log = log_of(table, find_roles(table.file, _LOG), reading)
    users = _delimited(
        open_file, "users.dat", "::", ("id", "gender", "age", "occupation", "zip_code")
    )
    items = _delimited(open_file, "movies.dat", "::", ("id", "title", "genres"))
    described = None
    if items is not None:
        items, kinds = _with_titles(items, _genres_of(items.columns["genres"])), ITEM_KINDS
        tags = open_file("tags.dat")
        if tags is not None:
            items, kinds = _with_tags(items, "id", _tags_dat(*tags)), {**kinds, **_TAGS}
        described = description(items, "id", kinds)
    return log, None if users is None else description(users, "id", USER_KINDS), described


def _layout_csv(open_file: Open, reading: Reading) -> Layout | None:
    found = open_file("ratings.csv")
    if found is None:
        return None
    items = None
    movies = open_file("movies.csv")
    if movies is not None:
        table, kinds = _columns_of(quoted(*movies), "movieId", "title", "genres"), ITEM_KINDS
        table = _with_titles(table, _genres_of(table.columns["genres"]))
        tags, links = open_file("tags.csv"), open_file("links.csv")
        if tags is not None:
            table, kinds = _with_tags(table, "movieId", _tags_csv(*tags)), {**kinds, **_TAGS}
        if links is not None:
            table, kinds = _with_links(table, quoted(*links)), {**kinds, **_LINKS}
        items = description(table, "movieId", kinds)
    fast = _numeric_log(*found, ",", None, reading)
    if fast is not None:
        return fast, None, items
    log = quoted(*found)
    names = list(log.columns)
    roles = find_roles(log.file, names)

    def fits(name: str, role: str) -> bool:
        try:
            parsed(log, name, number_of)
        except DataError:
            return False
        return True

    check_unused(log.file, names, roles, reading, fits)
    parsed_log = log_of(log, roles, reading)
    notes = (*unused_note(names, roles), *parsed_log.notes)
    return parsed_log._replace(notes=notes), None, items


def _columns_of(table: TextTable, *names: str) -> TextTable:
    for name in names:
        if name not in table.columns:
            raise DataError(
                f"no column {name!r}; found {', '.join(table.columns)}.", file=table.file
            )
    return table


# Of a log as published: whole numbers but the rating, as people and this reader write them.
_NUMBERS = np.dtype([("user", "i8"), ("item", "i8"), ("rating", "f8"), ("time", "i8")])
_HEADER = b"userId,movieId,rating,timestamp"
_UNUSUAL = re.compile(rb"[^0-9.,:\r\n]|(?:^|[\n,:])0[0-9]")


def _numeric_log(
    data: bytes, file: str, separator: str, header: Sequence[str] | None, reading: Reading
) -> Log | None:
    """Reads a log of plain numbers in a tenth of the time and memory of a table of texts.

    Returns:
        The log; None for what differs in anything, whose reader names the line and the column.
    """
    if reading.drop or (separator != "," and b"," in data):
        return None
    text = data.replace(b"::", b",") if separator == "::" else data
    if header is None:
        first, _, text = text.partition(b"\n")
        if first.strip() != _HEADER:
            return None
    if _UNUSUAL.search(text):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Of no rows, and of 1.5 as a whole number.
        try:
            rows = np.loadtxt(io.BytesIO(text), _NUMBERS, delimiter=",", comments=None, ndmin=1)
        except (ValueError, Warning):
            return None
    if text.rstrip(b"\r\n").count(b"\n") + 1 != len(rows):  # NumPy skips blank lines.
        return None
    if not (np.abs(rows["rating"]) <= np.finfo(np.float32).max).all():
        return None
    lines = 1 if header else 2
    codes, ids = {}, {}
    for name in ("user", "item"):
        values, inverse = np.unique(rows[name], return_inverse=True)
        texts = np.array(values.astype(str).tolist())  # As long as the longest is, not as 64 bits.
        order = np.argsort(texts)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        codes[name], ids[name] = place[inverse], texts[order]
    of_user, of_item, of_rating, of_time = header or _HEADER.decode().split(",")
    return Log(
        roles=Roles(of_user, of_item, of_rating, of_time),
        user=codes["user"],
        item=codes["item"],
        rating=rows["rating"].copy(),
        time=rows["time"].copy(),
        user_ids=ids["user"],
        item_ids=ids["item"],
        place=lambda row: {"file": file, "line": lines + row},
    )


def _tags_dat(data: bytes, file: str) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(decode_lines(data, file, _encoding(data)), 1):
        # A tag may hold the separator.
        fields = line.removesuffix("\r").split("::")
        if len(fields) < 4:
            raise DataError(
                f"must have 4 fields (user, movie, tag, time), got {len(fields)}.",
                file=file,
                line=number,
            )
        yield fields[1], "::".join(fields[2:-1])


def _tags_csv(data: bytes, file: str) -> Iterable[tuple[str, str]]:
    # Row by row, without a table: there are millions.
    rows = csv.reader(line + "\n" for line in decode_lines(data, file))
    names = next(rows)
    for name in ("movieId", "tag"):
        if name not in names:
            raise DataError(f"no column {name!r}; found {', '.join(names)}.", file=file)
    movie, tag = names.index("movieId"), names.index("tag")
    try:
        for row in rows:
            if len(row) != len(names):
                raise DataError(
                    f"must have {len(names)} fields ({', '.join(names)}), got {len(row)}.",
                    file=file,
                    line=rows.line_num,
                )
            yield row[movie], row[tag]
    except csv.Error as error:
        raise DataError(f"{error}.", file=file, line=rows.line_num) from None


def _with_tags(table: TextTable, ids: str, tags: Iterable[tuple[str, str]]) -> TextTable:
    """Adds a column of each item's most frequent tags, in lower case."""
    counts: dict[str, Counter[str]] = {}
    for movie, text in tags:
        tag = " ".join(text.lower().replace(",", " ").split())
        if 0 < len(tag) <= _LONGEST_TAG:
            counts.setdefault(movie, Counter())[tag] += 1
    fields = [
        ", ".join(sorted(of_movie, key=lambda tag: (-of_movie[tag], tag))[:_MOST_TAGS])
        for of_movie in (counts.get(movie, Counter()) for movie in table.columns[ids])
    ]
    return table._replace(columns={**table.columns, "tags": fields})


def _with_links(table: TextTable, links: TextTable) -> TextTable:
    columns = _columns_of(links, "movieId", "imdbId", "tmdbId").columns
    added: dict[str, Sequence[str]] = {}
    for name, column in zip(_LINKS, ("imdbId", "tmdbId"), strict=True):
        known = dict(zip(columns["movieId"], columns[column], strict=True))
        added[name] = [known.get(movie, "") for movie in table.columns["movieId"]]
    return table._replace(columns={**table.columns, **added})


def _encoding(data: bytes) -> str:
    """UTF-8, as of 10M; of what is none Latin-1, as of 100K and 1M."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _delimited(
    open_file: Open, name: str, separator: str, header: Sequence[str]
) -> TextTable | None:
    found = open_file(name)
    if found is None:
        return None
    # 100K is Latin-1, and its bytes may happen to be UTF-8 as well.
    encoding = _encoding(found[0]) if separator == "::" else "latin-1"
    return delimited(*found, separator, header=header, encoding=encoding)


def _with_titles(table: TextTable, genres: Sequence[str]) -> TextTable:
    both = [title_and_year(text) for text in table.columns["title"]]
    titles, years = [title for title, _ in both], [year for _, year in both]
    return table._replace(
        columns={**table.columns, "title": titles, "year": years, "genres": genres}
    )


def _genres_of(fields: Sequence[str]) -> list[str]:
    # A genre of two words stays one token.
    return [
        "" if field == "(no genres listed)" else field.replace(" ", "_").replace("|", " ")
        for field in fields
    ]

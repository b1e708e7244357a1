"""Reader of MovieLens in the three layouts of GroupLens: 100K, 1M and 10M, and CSV.

Reference: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.readers.assembly import (
    Log,
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
ITEM_KINDS: dict[str, Kind] = {"title": "text", "year": "numeric", "genres": "tokens"}

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
    (article first, without the year), year and genres.

    Args:
        path: A folder or zip file with `u.data` (100K), `ratings.dat` (1M, 10M) or `ratings.csv`
            (the later ones). With it u.user and u.item, users.dat and movies.dat, or
            movies.csv, where there are any. Or `u.data` or `ratings.dat` itself.
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
    log = _delimited(open_file, "ratings.dat", "::", _LOG)
    if log is None:
        return None
    users = _delimited(
        open_file, "users.dat", "::", ("id", "gender", "age", "occupation", "zip_code")
    )
    items = _delimited(open_file, "movies.dat", "::", ("id", "title", "genres"))
    if items is not None:
        items = _with_titles(items, _genres_of(items.columns["genres"]))
    return (
        log_of(log, find_roles(log.file, _LOG), reading),
        None if users is None else description(users, "id", USER_KINDS),
        None if items is None else description(items, "id", ITEM_KINDS),
    )


def _layout_csv(open_file: Open, reading: Reading) -> Layout | None:
    found = open_file("ratings.csv")
    if found is None:
        return None
    log, items = quoted(*found), None
    found = open_file("movies.csv")
    if found is not None:
        movies = quoted(*found)
        missing = [name for name in ("movieId", "title", "genres") if name not in movies.columns]
        if missing:
            raise DataError(
                f"no column {missing[0]!r}; found {', '.join(movies.columns)}.", file=movies.file
            )
        movies = _with_titles(movies, _genres_of(movies.columns["genres"]))
        items = description(movies, "movieId", ITEM_KINDS)
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


def _delimited(
    open_file: Open, name: str, separator: str, header: Sequence[str]
) -> TextTable | None:
    found = open_file(name)
    if found is None:
        return None
    return delimited(*found, separator, header=header, encoding="latin-1")


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

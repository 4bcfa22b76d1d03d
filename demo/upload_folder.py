"""The folder that uploads and results live in, and how they leave it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "avsync-zoo-demo-"
VARIABLE = "GRADIO_TEMP_DIR"  # where Gradio puts uploads, and serves files from
RESULTS, EXAMPLES = "results", "examples"  # the examples stay, and can be played from there


def make_folder() -> Path:
    """Make a private folder for this process, which goes when it ends.

    It lies where ``GRADIO_TEMP_DIR`` says, by default in the system's temporary folder.
    """
    given = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())
    if given.name.startswith(f"{PREFIX}{os.getpid()}-"):
        return given  # `gradio demo/app.py` builds the page twice
    given.mkdir(parents=True, exist_ok=True)
    _remove_orphans(given)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=given))
    os.environ[VARIABLE] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / RESULTS).mkdir()
    (folder / EXAMPLES).mkdir()
    return folder


def _remove_orphans(parent: Path) -> None:
    """Remove the folders of servers that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):
            continue  # somebody else's


def result_folder() -> Path:
    """Make a new folder for the files of one answer."""
    results = Path(os.environ[VARIABLE]) / RESULTS
    results.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=results))


@contextmanager
def results() -> Iterator[Path]:
    """Give a folder for the files of one answer, which is removed if there is none."""
    folder = result_folder()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sweep(folder: Path, age_s: float) -> None:
    """Remove files that were last touched longer ago than this, and folders left empty."""
    limit = time.time() - age_s
    for place, _, names in os.walk(folder, topdown=False):
        if Path(place) == folder / EXAMPLES:
            continue
        for name in names:
            file = Path(place, name)
            if _touched(file) < limit:
                file.unlink(missing_ok=True)
        if Path(place) not in (folder, folder / RESULTS) and _touched(Path(place)) < limit:
            with suppress(OSError):  # somebody has put a file there in the meantime
                Path(place).rmdir()


def _touched(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except OSError:
        return time.time()


def keep_sweeping(folder: Path, age_s: float, every_s: float) -> None:
    """Sweep again and again, beside the server."""

    def work() -> None:
        while folder.exists():
            time.sleep(every_s)
            sweep(folder, age_s)

    threading.Thread(target=work, name="sweep", daemon=True).start()

"""Files appear under their final name only when they are whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end, or removed if the block fails.

    The process id in its name keeps two processes that write the same file apart.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text_whole(path: str | Path, text: str) -> None:
    """Write a text file so that it is never seen half written."""
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")

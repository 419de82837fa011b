"""A small disk that can fill and be made read-only."""

import os
import subprocess
from pathlib import Path

import pytest


class Disk:
    """A small file system of its own, mounted at a folder."""

    def __init__(self, folder: Path, size: int):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if mounted.returncode:
            pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")

    def leave(self, free: int) -> None:
        """Fill the disk but for some bytes (whole pages)."""
        self.make_room()
        at = os.statvfs(self.folder)
        with open(self.folder / "ballast", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(at.f_bavail * at.f_frsize - free, 1))

    def make_room(self) -> None:
        """Remove what `leave` wrote."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def read_only(self, on: bool = True) -> None:
        """Forbid to write, or allow it again."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder)], check=True)

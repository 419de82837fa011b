"""A small disk that a test fills or makes read-only."""

import os
import subprocess
from pathlib import Path

import pytest


class Disk:
    """A small file system, mounted at a folder."""

    def __init__(self, folder: Path, size: int):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("mount is not installed")
        if mounted.returncode:
            pytest.skip(f"mounting a file system is not permitted: {mounted.stderr.strip()}")

    def leave(self, free: int) -> None:
        """Fill the disk except for some bytes (whole pages)."""
        self.make_room()
        at = os.statvfs(self.folder)
        with open(self.folder / "ballast", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(at.f_bavail * at.f_frsize - free, 1))

    def make_room(self) -> None:
        """Remove what `leave` wrote."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def read_only(self, on: bool = True) -> None:
        """Make the disk read-only, or writable again."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder)], check=True)

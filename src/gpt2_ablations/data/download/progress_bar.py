"""The progress bar of a download."""

from tqdm import tqdm

from ...common.logs import progress_stream
from ...common.progress import report


class ProgressBar(tqdm):
    """A bar on the console, if that is a terminal, that also writes the job's progress file."""

    def __init__(self, *arguments, **settings):
        defaults = {"unit": "B", "unit_scale": True, "disable": None, "file": progress_stream()}
        super().__init__(*arguments, **defaults | settings)
        self._bytes = settings.get("initial") or 0  # a bar that is not displayed does not count

    def update(self, n=1):
        self._bytes += n or 0
        report("download", self._bytes, self.total)
        return super().update(n)

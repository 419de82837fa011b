"""A process that downloads with huggingface_hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpt2_ablations

SOURCE_FOLDER = Path(gpt2_ablations.__file__).parents[1]
# huggingface_hub reads the environment when it is imported, so each environment needs its own process.
WORKER = """
import json, sys
from pathlib import Path
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.download import fetch_file

for line in sys.stdin:
    task = json.loads(line)
    try:
        fetch_file(task["sources"], Path(task["destination"]), task["sha256"], "weights.sources")
        answer = None
    except InputError as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""


class HubClient:
    """A process that uses a test server as the hub and a test folder as the cache."""

    def __init__(self, endpoint: str, cache: Path, **environment: str):
        self.cache = cache
        self.log = cache.with_name(f"{cache.name}.log")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            env={
                **inherited,
                "PYTHONPATH": str(SOURCE_FOLDER),
                "HF_ENDPOINT": endpoint,
                "HF_HOME": str(cache),
                "HF_HUB_ETAG_TIMEOUT": "1",
                "HF_HUB_DOWNLOAD_TIMEOUT": "1",
                **environment,
            },
        )

    def fetch(self, sources: list[str], destination: Path, sha256: str | None) -> str | None:
        """Fetch a file.

        Returns: the text of the error; None if there was none.
        """
        task = {"sources": sources, "destination": str(destination), "sha256": sha256}
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.log.read_text()
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)

    def __enter__(self) -> "HubClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""How long a download waits, how slow it may be and how often it asks again."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ...common.errors import InputError
from .sources import SourceError, shown

ENVIRONMENT = "GPT2_ABLATIONS_DOWNLOAD_"
LONGEST_WAIT = 60.0  # seconds that a server's Retry-After is obeyed for
PROGRESS = 2**20  # bytes; an attempt that brought so many more does not count against the attempts
Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Each is also an environment variable, as in GPT2_ABLATIONS_DOWNLOAD_TIMEOUT=120."""

    attempts: int = 3  # at one place, without progress
    pause: float = 2.0  # seconds before the second attempt; doubles each time
    timeout: float = 30.0  # seconds to connect, and seconds without a byte
    min_rate: float = 1024.0  # bytes a second, on average over `timeout` seconds


def retry_policy_from_environment() -> RetryPolicy:
    """The patience that the environment asks for.

    Raises:
        InputError: a variable is not a positive number.
    """
    values: dict[str, Any] = {}
    for field in fields(RetryPolicy):
        name = ENVIRONMENT + field.name.upper()
        if name not in os.environ:
            continue
        try:
            value = (int if field.type is int else float)(os.environ[name])
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf and not (value == 0 and field.name in ("pause", "min_rate")):
            kind = "a whole number from 1" if field.type is int else "a number above 0"
            raise InputError(f"environment: {name} is {os.environ[name]!r}; it must be {kind}, or unset it")
        values[field.name] = value
    return RetryPolicy(**values)


def with_retries(
    attempt: Callable[[], Result], place: str, policy: RetryPolicy, size: Callable[[], int] = lambda: 0
) -> Result:
    """Call `attempt` until it succeeds, with growing pauses, as long as its failures may pass.

    Args:
        place: where `attempt` asks, for the note on stderr.
        size: bytes at hand; attempts that bring the download forward are not counted.

    Raises:
        SourceError: the last one.
    """
    failed, most = 0, size()
    while True:
        try:
            return attempt()
        except SourceError as error:
            failed += 1
            if size() >= most + PROGRESS:
                failed, most = 1, size()
            if not error.transient:
                raise
            if failed >= policy.attempts:
                raise SourceError(f"{error} ({failed} attempts)") from None
            pause = max(policy.pause * 2 ** (failed - 1), min(error.wait, LONGEST_WAIT))
            print(f"{shown(place)}: {error}; trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


def answer_in_time(ask: Callable[[], Result], policy: RetryPolicy) -> Result:
    """Call `ask`, which sends a request and waits for the answer's headers.

    Its own timeouts do not end it if the headers come a byte at a time. So it runs in a thread that can be left behind.

    Raises:
        TimeoutError: no answer in twice the timeout, once for the connection and once for the headers.
    """
    answer: Future[Result] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer.result(2 * policy.timeout)


class TooSlow(SourceError):
    """Bytes come, but hardly any."""


class Pace:
    """Ends a transfer that crawls: a timeout alone never ends a server that sends a byte a second."""

    def __init__(self, policy: RetryPolicy):
        self.policy, self.bytes, self.start = policy, 0, time.monotonic()

    def count(self, size: int) -> None:
        """Count the bytes that arrived.

        Raises:
            TooSlow: fewer than `min_rate` a second on average over the last window of `timeout` seconds.
        """
        self.bytes += size
        elapsed = time.monotonic() - self.start
        if elapsed < self.policy.timeout:
            return
        if self.bytes < self.policy.min_rate * elapsed:
            raise TooSlow(f"too slow: {self.bytes} bytes in {elapsed:.1f} s", transient=True)
        self.bytes, self.start = 0, time.monotonic()

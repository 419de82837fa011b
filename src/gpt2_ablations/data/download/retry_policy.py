"""The retry policy of downloads: attempts, back-off, timeout and minimum rate."""

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
from .sources import SourceError, printable_source

MAY_BE_ZERO = ("pause", "min_rate")
ENVIRONMENT = "GPT2_ABLATIONS_DOWNLOAD_"
MAX_RETRY_AFTER = 60.0  # seconds; a server that asks for a longer wait is asked again after this
PROGRESS = 2**20  # bytes; an attempt that brings at least so many starts the count of attempts again
T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """When a download is tried again and when it is given up.

    Each attribute is also an environment variable, such as GPT2_ABLATIONS_DOWNLOAD_TIMEOUT=120.

    Attributes:
        attempts: failed attempts without progress after which a source is given up.
        pause: seconds before the second attempt; doubles with each further attempt.
        timeout: seconds to connect, and seconds without a byte, after which an attempt fails.
        min_rate: bytes per second, on average over `timeout` seconds, below which an attempt fails.
    """

    attempts: int = 3
    pause: float = 2.0
    timeout: float = 30.0
    min_rate: float = 1024.0


def retry_policy_from_environment() -> RetryPolicy:
    """The retry policy, with the values that environment variables set.

    Raises:
        InputError: the value of a variable is not allowed.
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
        if not 0 < value < math.inf and not (value == 0 and field.name in MAY_BE_ZERO):
            allowed = "a whole number from 1" if field.type is int else "a number above 0"
            if field.name in MAY_BE_ZERO:
                allowed = "a number from 0"
            raise InputError(f"environment: {name} is {os.environ[name]!r}; set it to {allowed}, or unset it")
        values[field.name] = value
    return RetryPolicy(**values)


def with_retries(attempt: Callable[[], T], source: str, policy: RetryPolicy, size: Callable[[], int] = lambda: 0) -> T:
    """Call `attempt` until it succeeds, with growing pauses, as long as its errors are transient.

    Args:
        attempt: fetches or resumes the file; raises SourceError.
        source: for the note on standard error before each further attempt.
        policy: how often to try, and how long to pause.
        size: returns the number of bytes fetched so far.

    Returns: what `attempt` returns.

    Raises:
        SourceError: a permanent error, or the transient error of the last attempt.
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
            pause = max(policy.pause * 2 ** (failed - 1), min(error.wait, MAX_RETRY_AFTER))
            print(f"{printable_source(source)}: {error}; trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


def answer_in_time(ask: Callable[[], T], policy: RetryPolicy) -> T:
    """Call `ask`, which sends a request and waits for the headers of the response, with a limit on the total time.

    The timeouts of HTTP clients start again with each byte, so they do not limit headers that arrive byte by byte. The
    call runs in a thread, which is abandoned after the time limit.

    Raises:
        TimeoutError: no response within twice the timeout, once for the connection and once for the headers.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer.result(2 * policy.timeout)


class TooSlow(SourceError):
    """Bytes arrive, but more slowly than the minimum rate."""


class Pace:
    """Ends a transfer that is too slow. A timeout alone does not end a transfer of one byte per second."""

    def __init__(self, policy: RetryPolicy):
        self.policy, self.bytes, self.start = policy, 0, time.monotonic()

    def count(self, size: int) -> None:
        """Count the bytes that arrived.

        Raises:
            TooSlow: fewer than `min_rate` bytes per second arrived, on average over the last `timeout` seconds.
        """
        self.bytes += size
        elapsed = time.monotonic() - self.start
        if elapsed < self.policy.timeout:
            return
        if self.bytes < self.policy.min_rate * elapsed:
            raise TooSlow(f"too slow: {self.bytes} bytes in {elapsed:.1f} s", transient=True)
        self.bytes, self.start = 0, time.monotonic()

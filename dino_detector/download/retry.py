"""How long a fetch keeps trying: exponential back-off with jitter, counted anew whenever something arrives."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests
import urllib3

from dino_detector.errors import InputError

log = logging.getLogger(__name__)

RETRIED_STATUS = {408, 416, 429}
"""answers of 400 to 499 that another attempt can change; from 500 on all can"""
MIRROR = "or give a mirror with --coco_url"
KEPT = "run again (what has arrived is kept)"


@dataclass(frozen=True)
class Patience:
    """When to try again and when to give up; all but the first in seconds.

    A host that can't be reached is given up after at most `unreachable` and one more attempt, about 20 seconds.
    """

    attempts: int = 6
    """attempts in a row that bring nothing new"""
    first_wait: float = 0.5
    """after the first failure; each wait doubles, and a random part of up to half is taken off"""
    longest_wait: float = 20.0
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    """silence after which a connection is given up"""
    unreachable: float = 12.0
    """time without a connection after which no further attempt begins"""

    @property
    def timeouts(self) -> tuple[float, float]:
        """To connect and to read, as requests takes them."""
        return self.connect_timeout, self.read_timeout


class FetchError(Exception):
    """An attempt failed in a way that another may not; the message is what happened.

    Attributes:
        connected: whether the host answered at all.
        wait: seconds that the server asks to wait.
    """

    def __init__(self, reason: str, *, connected: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.connected = connected
        self.wait = wait


class Attempts:
    """The attempts at one address."""

    def __init__(self, url: str, patience: Patience, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self.url = url
        self.patience = patience
        self.sleep = sleep
        self.renew()

    def renew(self) -> None:
        """Something new has arrived: count anew."""
        self.failures = 0
        self.silent_since = time.monotonic()

    def failed(self, error: FetchError) -> None:
        """Wait for the next attempt.

        Raises:
            InputError: there have been enough.
        """
        self.failures += 1
        if error.connected:
            self.silent_since = time.monotonic()
        lost = time.monotonic() - self.silent_since > self.patience.unreachable
        if lost or self.failures >= self.patience.attempts:
            what = str(error) if error.connected else f"cannot be reached ({error})"
            raise InputError(f"{self.url}: {what}; check the network or the proxy and {KEPT}, {MIRROR}") from error
        wait = min(self.patience.first_wait * 2 ** (self.failures - 1), self.patience.longest_wait)
        wait = max(wait * random.uniform(0.5, 1), min(error.wait, self.patience.longest_wait))
        log.info("%s: %s; trying again in %.1f s", self.url, error, wait)
        self.sleep(wait)


def check_status(response: requests.Response, url: str) -> None:
    """Raise `FetchError` for an answer worth another attempt, `InputError` for one that will stay as it is."""
    if response.ok and response.status_code in (200, 206):
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise FetchError("the answer is a web page, not the file")
        return
    answer = f"the server answered {response.status_code} {response.reason or ''}".strip()
    if response.status_code in RETRIED_STATUS or response.status_code >= 500:
        asked = response.headers.get("Retry-After", "")
        raise FetchError(answer, wait=float(asked) if asked.isdecimal() else 0.0)
    raise InputError(f"{url}: {answer}; correct --coco_url, or give a mirror that has this file")


def explain(error: Exception, patience: Patience) -> FetchError:
    """What requests or urllib3 raised, as a `FetchError` with a reason that a person understands."""
    causes = _causes(error)
    kinds = {kind for cause in causes for kind in type(cause).__mro__}
    reasons = [str(cause.strerror) for cause in causes if isinstance(cause, OSError) and cause.strerror]
    if requests.ConnectTimeout in kinds:
        return FetchError(f"no connection within {patience.connect_timeout:g} s", connected=False)
    if kinds & {requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError}:
        return FetchError(f"nothing has arrived for {patience.read_timeout:g} s")
    if urllib3.exceptions.DecodeError in kinds:
        return FetchError("the answer cannot be decoded")
    if urllib3.exceptions.ProtocolError in kinds:
        return FetchError(f"the connection broke ({reasons[-1]})" if reasons else "the connection broke")
    if requests.ConnectionError in kinds:
        return FetchError(reasons[-1] if reasons else str(error), connected=False)
    return FetchError(str(error))


def _causes(error: BaseException | None) -> list[BaseException]:
    """The exception and those it came from, the first cause last."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain

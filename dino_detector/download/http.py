"""GET requests that are repeated until the server sends the file, or fail with a message for the user."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
import urllib3
from requests.adapters import HTTPAdapter

from dino_detector.errors import InputError

log = logging.getLogger(__name__)

ATTEMPTS = 6
"""attempts in a row that bring no new byte"""
CONNECTIONS = 8
"""connections at once"""
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 20.0
"""seconds"""
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""seconds between attempts; each wait is twice the one before"""
TEMPORARY = frozenset({408, 429, *range(500, 600)})
"""error statuses that another attempt can change"""
RUN_AGAIN = "check the network or the proxy and run again (what has arrived is kept), or give a mirror with --coco_url"


class UselessAnswer(Exception):
    """An answer broke off, or is not the requested file. Another attempt can succeed."""


def new_session() -> requests.Session:
    """Return a session that repeats a request that gets no answer or a temporary error status.

    Three attempts to connect take at most about 20 seconds. ``Retry-After`` is obeyed up to `LONGEST_WAIT`.
    """
    retry = urllib3.Retry(
        total=ATTEMPTS - 1,
        connect=2,
        status_forcelist=TEMPORARY,
        raise_on_status=False,
        backoff_factor=FIRST_WAIT,
        backoff_jitter=FIRST_WAIT,
        backoff_max=LONGEST_WAIT,
        retry_after_max=LONGEST_WAIT,
    )
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # ranges count encoded bytes
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=CONNECTIONS))
    return session


@contextmanager
def answered(session: requests.Session, url: str, *, start: int = 0) -> Iterator[requests.Response]:
    """Yield the answer, of status 200, 206 or 416, to a request for a file from byte ``start`` on.

    Raises:
        UselessAnswer: the answer is a web page, or breaks off while the caller reads its body.
        InputError: there is no answer, or its status is another one.
    """
    headers = {"Range": f"bytes={start}-"} if start else None
    try:
        response = session.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be reached ({_cause(error)}); {RUN_AGAIN}") from error
    with response:
        status = response.status_code
        if status not in (200, 206, 416):
            remedy = RUN_AGAIN if status in TEMPORARY else "correct --coco_url, or give a mirror that has this file"
            raise InputError(f"{url}: the server answered {status} {response.reason}; {remedy}")
        if status != 416 and response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise UselessAnswer("the answer is a web page, not the file")
        try:
            yield response
        except urllib3.exceptions.HTTPError as error:
            raise UselessAnswer(f"the connection broke ({_cause(error)})") from error


def keep_trying(url: str, attempt: Callable[[], None], *, arrived: Callable[[], int] = lambda: 0) -> None:
    """Repeat an attempt that ends with `UselessAnswer`: a body that breaks off or is wrong, which `Retry` does not see.

    Raise `InputError` after `ATTEMPTS` attempts in a row without an increase of ``arrived``, the stored bytes.
    """
    failures = 0
    while True:
        before = arrived()
        try:
            return attempt()
        except UselessAnswer as error:
            failures = 1 if arrived() > before else failures + 1
            if failures == ATTEMPTS:
                raise InputError(f"{url}: {error}; {RUN_AGAIN}") from error
            log.info("%s: %s; trying again", url, error)
            time.sleep(min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT))


def _cause(error: BaseException) -> str:
    """Return the first cause of an error: requests and urllib3 wrap an error of the socket several times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error)

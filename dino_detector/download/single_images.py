"""Single images over HTTP: a few of a data set whose archive has many."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import requests
import urllib3
from PIL import Image

from dino_detector.download.disk import written
from dino_detector.download.progress import Progress
from dino_detector.download.retry import Attempts, FetchError, Patience, check_status, explain
from dino_detector.download.safe_names import safe_name
from dino_detector.errors import InputError

THREADS = 8
LARGEST = 100_000_000
"""bytes; what is longer is no image of COCO, which are below one million"""


def fetch_images(address: str, names: Sequence[str], folder: Path, *, patience: Patience) -> None:
    """Fetch images, several at a time; each appears in the folder only when it has been decoded as a whole.

    Args:
        address: what the names are appended to, without the last slash.
        names: file names, which nobody need have checked.
        folder: where the images go; it is made where it is not there.
        patience: when to try again and when to give up, for each image.

    Raises:
        InputError: a name leads out of the folder, an image can't be fetched, or the disk is full. The first stops the
            others; images that have arrived stay.
    """
    for name in names:
        try:
            safe_name(name)
        except ValueError as error:
            raise InputError(f"{folder}: image {error}; correct the annotations") from None
    with written(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    stopped = threading.Event()
    with (
        requests.Session() as session,
        Progress(f"fetching images of {folder.name}", total=len(names), unit="images") as progress,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=THREADS)
        session.mount("http://", adapter)
        session.mount("https://", adapter)

        def fetch(name: str) -> None:
            attempts = Attempts(f"{address}/{quote(name)}", patience, sleep=stopped.wait)
            while not stopped.is_set():
                try:
                    _store(_fetch(session, attempts.url, patience), folder / name)
                    return
                except FetchError as error:
                    attempts.failed(error)

        try:
            for future in as_completed([threads.submit(fetch, name) for name in names]):
                future.result()
                progress.advance()
        except BaseException:
            stopped.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(session: requests.Session, url: str, patience: Patience) -> bytes:
    """The bytes of an image that can be decoded to its end."""
    content = bytearray()
    try:
        headers = {"Accept-Encoding": "identity"}
        with session.get(url, headers=headers, stream=True, timeout=patience.timeouts) as response:
            check_status(response, url)
            length = response.headers.get("Content-Length", "")
            plain = response.headers.get("Content-Encoding", "identity") == "identity"
            for chunk in response.iter_content(1 << 16):
                content += chunk
                if len(content) > LARGEST:
                    raise InputError(f"{url}: is larger than {LARGEST:,} bytes; correct --coco_url")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise explain(error, patience) from error
    if plain and length.isdecimal() and int(length) != len(content):
        raise FetchError(f"{len(content)} bytes have arrived instead of {length}")
    try:
        with Image.open(BytesIO(content), formats=["JPEG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise FetchError("the answer cannot be decoded as a JPEG image") from error
    return bytes(content)


def _store(content: bytes, path: Path) -> None:
    beside = path.with_name(f".{path.name}.part")
    with written(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)

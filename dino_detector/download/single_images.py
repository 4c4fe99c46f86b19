"""Single images over HTTP, for a few images of a split whose archive holds many."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from dino_detector.download.http import CONNECTIONS, UselessAnswer, answered, keep_trying, new_session
from dino_detector.download.progress import progress
from dino_detector.download.safe_names import safe_name
from dino_detector.errors import InputError
from dino_detector.storage.files import explained_writing, remove_temporary_files, writing

LARGEST = 100_000_000
"""most bytes of an image; images of COCO have less than one million"""


def fetch_images(address: str, names: Sequence[str], folder: Path) -> None:
    """Fetch JPEG images ``address/name`` to a folder, several at once. Each is stored after it has been decoded.

    Raises:
        InputError: a name leads out of the folder, an image can't be fetched, or the disk is full. The first error
            stops the other downloads; images that have arrived stay.
    """
    for name in names:
        try:
            safe_name(name)
        except ValueError as error:
            raise InputError(f"{folder}: image {error}; correct the annotations") from None
    with explained_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(folder)
    with (
        new_session() as session,
        progress(f"fetching images of {folder.name}", total=len(names), unit="images") as bar,
        ThreadPoolExecutor(CONNECTIONS) as threads,
    ):

        def fetch(name: str) -> None:
            url = f"{address}/{quote(name)}"

            def attempt() -> None:
                with answered(session, url) as response:
                    content = response.raw.read(LARGEST + 1, decode_content=True)
                if len(content) > LARGEST:
                    raise InputError(f"{url}: is larger than {LARGEST:,} bytes; correct --coco_url")
                try:
                    with Image.open(BytesIO(content), formats=["JPEG"]) as image:
                        image.load()
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                    raise UselessAnswer("the answer cannot be decoded as a JPEG image") from error
                with writing(folder / name, sync=False) as file:
                    file.write(content)

            keep_trying(url, attempt)

        for _ in threads.map(fetch, names):
            bar.update()

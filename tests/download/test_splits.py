from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from coco_server import CocoServer, body, drop, jpeg, status, web_page, zipped
from filelock import FileLock

from dino_detector import download
from dino_detector.config import DownloadConfig
from dino_detector.download import (
    CocoSplit,
    annotations_path,
    download_annotations,
    download_images,
    download_split,
    images_dir,
    is_complete,
)
from dino_detector.download.coco2017 import SPLITS
from dino_detector.errors import InputError

INSTANCES = "annotations/annotations_trainval2017.zip"


@pytest.fixture
def server() -> Iterator[CocoServer]:
    with CocoServer() as server:
        server.add_coco()
        yield server


@pytest.fixture
def config(server: CocoServer, tmp_path: Path) -> DownloadConfig:
    return DownloadConfig(
        data_dir=tmp_path / "coco",
        coco_url=f"{server.url}/",
        coco_checksums=server.write_checksums(tmp_path / "sums.txt"),
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_the_layout_is_that_of_coco() -> None:
    assert images_dir("test", Path("x")) == Path("x/test2017")
    assert annotations_path("train", Path("x")) == Path("x/annotations/instances_train2017.json")
    assert annotations_path("test", Path("x")) == Path("x/annotations/image_info_test-dev2017.json")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_is_fetched_once_and_only_it(split: CocoSplit, server: CocoServer, config: DownloadConfig) -> None:
    assert not is_complete(split, config.data_dir)
    download_split(split, config)
    assert is_complete(split, config.data_dir)
    assert contents(images_dir(split, config.data_dir)) == {f"{number:012d}.jpg": jpeg(number) for number in range(4)}
    info = SPLITS[split].info
    assert visible(config.data_dir) == ["annotations", f"{split}2017"]
    assert visible(config.data_dir / "annotations") == sorted(info.files or ())
    assert [request.path for request in server.requests] == [info.path, f"zips/{split}2017.zip"]
    download_split(split, config)
    assert len(server.requests) == 2


def test_train_and_val_share_one_archive_of_annotations(server: CocoServer, config: DownloadConfig) -> None:
    download_split("train", config)
    download_split("val", config)
    assert [request.path for request in server.requests] == [INSTANCES, "zips/train2017.zip", "zips/val2017.zip"]


def put_by_hand(split: CocoSplit, server: CocoServer, data_dir: Path) -> None:
    annotations_path(split, data_dir).parent.mkdir(parents=True)
    listing = json.dumps({"images": [{"file_name": f"{number:012d}.jpg"} for number in range(4)]})
    for name in SPLITS[split].annotations:
        (data_dir / "annotations" / name).write_text(listing)
    images_dir(split, data_dir).mkdir()
    for number in range(4):
        (images_dir(split, data_dir) / f"{number:012d}.jpg").write_bytes(b"not looked into")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_coco_of_the_users_own_is_complete(split: CocoSplit, server: CocoServer, config: DownloadConfig) -> None:
    put_by_hand(split, server, config.data_dir)
    before = contents(config.data_dir)
    download_split(split, config)
    assert download_annotations(split, config) == annotations_path(split, config.data_dir)
    assert server.requests == []
    assert contents(config.data_dir) == before


@pytest.mark.parametrize("image", [None, b""], ids=["missing", "empty"])
def test_one_image_too_few_is_not_complete(image: bytes | None, server: CocoServer, config: DownloadConfig) -> None:
    put_by_hand("val", server, config.data_dir)
    path = config.data_dir / "val2017" / "000000000002.jpg"
    path.unlink()
    if image is not None:
        path.write_bytes(image)
    (config.data_dir / "val2017" / "mine.txt").write_bytes(b"mine")
    assert not is_complete("val", config.data_dir)
    download_split("val", config)
    assert is_complete("val", config.data_dir)
    assert path.read_bytes() == jpeg(2)
    assert (config.data_dir / "val2017" / "mine.txt").read_bytes() == b"mine"
    assert [request.path for request in server.requests] == ["zips/val2017.zip"]


@pytest.mark.parametrize("listing", ["", '{"images": [{"file_n', "[]", '{"images": []}', '{"images": [{"id": 3}]}'])
def test_broken_annotations_are_replaced_and_others_are_left(
    listing: str, server: CocoServer, config: DownloadConfig
) -> None:
    put_by_hand("val", server, config.data_dir)
    annotations_path("val", config.data_dir).write_text(listing)
    annotations_path("train", config.data_dir).write_text("of the user")
    assert not is_complete("val", config.data_dir)
    download_split("val", config)
    assert is_complete("val", config.data_dir)
    assert annotations_path("train", config.data_dir).read_text() == "of the user"
    assert [request.path for request in server.requests] == [INSTANCES]


def test_annotations_alone_are_fetched_without_images(server: CocoServer, config: DownloadConfig) -> None:
    path = download_annotations("val", config)
    assert len(json.loads(path.read_text())["images"]) == 4
    assert [request.path for request in server.requests] == [INSTANCES]
    assert visible(config.data_dir) == ["annotations"]


def test_an_archive_that_lacks_a_listed_image_does_not_look_complete(
    server: CocoServer, config: DownloadConfig
) -> None:
    server.files["zips/val2017.zip"] = zipped({"val2017/000000000000.jpg": jpeg(0)})
    server.write_checksums(config.coco_checksums)
    with pytest.raises(InputError, match=r"val2017/000000000001.jpg: is listed in .*\(3 images are missing\)"):
        download_split("val", config)
    assert not is_complete("val", config.data_dir)


def test_a_malicious_archive_is_removed_and_nothing_of_it_is_left(
    server: CocoServer, config: DownloadConfig, tmp_path: Path
) -> None:
    server.files["zips/val2017.zip"] = zipped({"val2017/000000000000.jpg": jpeg(0), "../evil": b"evil"})
    server.write_checksums(config.coco_checksums)
    with pytest.raises(InputError, match=r"entry '../evil' is no plain path"):
        download_split("val", config)
    assert visible(config.data_dir) == ["annotations"]
    assert visible(tmp_path) == ["coco", "sums.txt"]


def test_cocos_own_size_is_demanded_of_a_mirror_without_checksums(server: CocoServer, tmp_path: Path) -> None:
    config = DownloadConfig(data_dir=tmp_path / "coco", coco_url=server.url)
    with pytest.raises(InputError, match=r"but COCO's own archive has 252,907,541; .*--coco_checksums"):
        download_split("val", config)


LISTED = "lists no checksum for annotations/annotations_trainval2017.zip"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda lines: lines.replace("  ", " *./"), None),
        (lambda lines: lines.replace("annotations/a", "/mirror/a").upper().replace("INSTANCES", ""), LISTED),
        (lambda lines: lines.replace("  annotations/", "  /srv/mirror/"), None),
        (lambda lines: "# of our mirror\n\n" + lines.replace("\n", "\r\n"), None),
        (lambda lines: "\n".join(line for line in lines.splitlines() if "trainval" not in line), LISTED),
        (lambda lines: lines[1:], "line 1 is not a checksum and a file"),
        (lambda lines: "<html>", "line 1 is not a checksum and a file"),
        (lambda lines: lines + "0" * 64 + "  zips/val2017.zip\n", "line 6 gives zips/val2017.zip a second checksum"),
    ],
)
def test_checksums_are_read_as_they_are_printed(change, error: str | None, config: DownloadConfig) -> None:
    config.coco_checksums.write_text(change(config.coco_checksums.read_text()))
    if error is None:
        download_split("val", config)
    else:
        with pytest.raises(InputError, match=f"{config.coco_checksums}: {error}"):
            download_split("val", config)


def test_single_images_are_fetched_by_name_and_only_once(server: CocoServer, config: DownloadConfig) -> None:
    names = ["000000000003.jpg", "000000000001.jpg", "000000000003.jpg"]
    (config.data_dir / "train2017").mkdir(parents=True)
    (config.data_dir / "train2017" / names[1]).write_bytes(b"mine")
    download_images("train", names, config)
    assert contents(config.data_dir / "train2017") == {names[0]: jpeg(3), names[1]: b"mine"}
    download_images("train", names, config)
    assert [request.path for request in server.requests] == ["train2017/000000000003.jpg"]


def test_a_hundred_images_are_fetched_at_a_time(server: CocoServer, config: DownloadConfig) -> None:
    names = [f"{number}.jpg" for number in range(100)]
    server.files |= {f"val2017/{name}": jpeg(7) for name in names}
    server.plan["val2017/50.jpg"] = [drop(100), status(503)]
    download_images("val", names, config)
    assert contents(config.data_dir / "val2017") == dict.fromkeys(names, jpeg(7))


@pytest.mark.parametrize(
    "trouble",
    [drop(4000), body(jpeg(1)[:4000]), web_page, body(b""), status(500), body(b"text")],
    ids=["dropped", "cut", "web page", "empty", "error", "text"],
)
def test_a_wrong_image_is_fetched_again_and_never_kept(trouble, server: CocoServer, config: DownloadConfig) -> None:
    path = "val2017/000000000001.jpg"
    server.plan[path] = [trouble] * 2
    download_images("val", ["000000000001.jpg"], config)
    assert contents(config.data_dir / "val2017") == {"000000000001.jpg": jpeg(1)}
    (config.data_dir / path).unlink()
    server.plan[path] = [trouble] * 9
    with pytest.raises(InputError, match=f"{server.url}/{path}: "):
        download_images("val", ["000000000001.jpg"], config)
    assert contents(config.data_dir / "val2017") == {}


def test_an_image_that_is_not_there_stops_the_others(server: CocoServer, config: DownloadConfig) -> None:
    with pytest.raises(InputError, match=rf"{server.url}/val2017/none\d*.jpg: the server answered 404"):
        download_images("val", ["none.jpg", *(f"none{number}.jpg" for number in range(500))], config)
    assert len(server.requests) < 100


@pytest.mark.parametrize("name", ["../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", "a\\evil.jpg", "C:evil.jpg", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, server: CocoServer, config: DownloadConfig) -> None:
    with pytest.raises(InputError, match="is no plain path below a folder; correct the annotations"):
        download_images("val", ["000000000001.jpg", name], config)
    assert server.requests == []


def test_a_second_download_waits_for_the_first(
    server: CocoServer, config: DownloadConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config.data_dir.mkdir()
    caplog.set_level("INFO", logger=download.__name__)
    second = threading.Thread(target=download_split, args=("val", config))
    with FileLock(config.data_dir / ".download.lock"):
        second.start()
        second.join(0.4)
        assert server.requests == []
    second.join(10)
    assert is_complete("val", config.data_dir)
    assert f"another process downloads into {config.data_dir}; waiting until it ends" in caplog.messages


def test_what_comes_while_waiting_is_not_fetched_again(server: CocoServer, config: DownloadConfig) -> None:
    both = [threading.Thread(target=download_split, args=("val", config)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(10)
    assert is_complete("val", config.data_dir)
    assert sorted(request.path for request in server.requests) == [INSTANCES, "zips/val2017.zip"]


def test_a_folder_that_cannot_be_made_is_named(config: DownloadConfig) -> None:
    config.data_dir.write_text("a file")
    with pytest.raises(InputError, match=f"^{config.data_dir}: "):
        download_split("val", config)

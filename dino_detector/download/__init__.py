"""COCO 2017, fetched to disk: whole splits by their archives, or single images. What is there is not fetched again."""

from dino_detector.download.coco2017 import Split, annotations_path, images_dir, is_complete
from dino_detector.download.splits import check_source, download_annotations, download_images, download_split

__all__ = [
    "Split",
    "annotations_path",
    "check_source",
    "download_annotations",
    "download_images",
    "download_split",
    "images_dir",
    "is_complete",
]

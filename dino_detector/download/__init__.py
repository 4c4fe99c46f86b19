"""Download COCO 2017: whole splits by their archives, or single images. Files on disk are not fetched again."""

from dino_detector.download.coco2017 import CocoSplit, annotations_path, images_dir, is_complete
from dino_detector.download.splits import check_source, download_annotations, download_images, download_split

__all__ = [
    "CocoSplit",
    "annotations_path",
    "check_source",
    "download_annotations",
    "download_images",
    "download_split",
    "images_dir",
    "is_complete",
]

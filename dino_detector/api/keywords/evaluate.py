"""Keyword arguments of `evaluate`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from typing import Literal, TypedDict

from dino_detector.api.keywords import PathLike, Size


class EvaluateKeywords(TypedDict, total=False):
    """Settings of `evaluate`."""

    val_images: PathLike | None
    """folder of the validation images"""
    val_annotations: PathLike | None
    """annotations of the validation images"""
    val_fraction: float | None
    """fraction of the training images to validate on, such as 0.2, where the data has no validation images. The
    content of an image decides its side, so it keeps it when images are added. Near-copies, and frames of one
    video, stay on one side"""
    by_name: bool
    """compare the classes of different files by name, and number them like the first file or the detector; without
    it, ids must agree too"""
    skip_unreadable: bool
    """leave validation images that can't be read out of the evaluation, and name them; without it, they are an
    error. Training always skips images that can't be read"""
    testdev_images: PathLike | None
    """folder of test images without annotations; their detections go to testdev_predictions_final.json"""
    download_val_data: bool
    """download COCO 2017's validation images to data_dir and evaluate on them"""
    download_test_data: bool
    """download COCO 2017's test images to data_dir and detect in the images of test-dev"""
    num_classes: int | None
    """number of classes; the annotations give it, and a number that contradicts them is an error"""
    max_megapixels: float
    """largest picture to open; the default is Pillow's limit, which guards against files that fill the memory"""
    num_workers: int
    """processes that load images; 0 loads in the main process"""
    data_dir: PathLike
    """folder of COCO 2017: downloads go there, and runs that name no images use it"""
    coco_url: str
    """address to download from; a mirror has the same files under the same paths, such as zips/val2017.zip"""
    coco_checksums: PathLike | None
    """checksums in sha256sum's format, for a mirror whose archives differ from COCO's own"""
    use_coco_mini: bool
    """train on a fixed subset of COCO 2017, chosen by its size, its seed and the image ids;
    coco_mini_SIZE_seedSEED_indices.json lists its images"""
    coco_mini_size: Literal["1k", "5k", "10k"]
    """training images of the subset; 1k is part of 5k, and 5k of 10k. Evaluation uses 1,000 validation images for
    1k, 5,000 for 5k and all for 10k, or all where there are fewer"""
    coco_mini_seed: int
    """seed of the selection"""
    coco_mini_indices_file: PathLike | None
    """file that lists the subset to use, from an earlier run on the same annotations"""
    test_mini: bool
    """detect in a few test images only"""
    test_mini_size: int
    """number of test images with test_mini"""
    dino_model: str
    """Hugging Face name or local folder of a DINOv2 model, with or without registers; dinov2-demo is a tiny model
    that comes with the package, for trials without a network"""
    output_dir: PathLike
    """folder for checkpoints, metrics and logs"""
    checkpoint: PathLike | None
    """checkpoint to resume or to evaluate; if it has no training state, training starts from its weights"""
    batch_size: int
    """images per step and process"""
    seed: int
    """seed of the weights, the order of the images and the augmentation"""
    precision: Literal["auto", "32", "bf16", "16"]
    """number format of the computation; auto is bf16 on a CUDA device or an x86 CPU with instructions for it, and
    32 elsewhere. In an evaluation, auto is the precision of the checkpoint if its training was given one"""
    device: str
    """auto, cpu, cuda, cuda:1 or mps"""
    tile_size: Size | None
    """detect in tiles of this size besides the whole image, in pixels of the image, a number or HEIGHTxWIDTH; each
    tile is resized to the input size of the network. An image that fits in one tile is not divided"""
    tile_overlap: float
    """fraction of a tile's side that overlaps the next tile; a small object should fit in the overlap"""
    max_detections: int
    """detections per image and class that the metrics count, at least COCO's 100; raise it where images have more
    objects of a class. With 300, AR100 is called AR300"""
    distributed: bool
    """train and evaluate in several processes, which this one command starts"""
    world_size: int | None
    """number of processes; None means one for each GPU, or 2 on a CPU"""
    dist_url: str
    """address where the processes meet: tcp://HOST:PORT, or env:// for a free port of this machine"""

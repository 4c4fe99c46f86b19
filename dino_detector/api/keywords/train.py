"""Keyword arguments of `train`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from dino_detector.api.keywords import PathLike, Size


class TrainKeywords(TypedDict, total=False):
    """Settings of `train`."""

    train_images: PathLike | None
    """folder of the training images"""
    train_annotations: PathLike | None
    """annotations of the training images, in the format of any labelling tool; a split of YOLO is
    data.yaml:train"""
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
    keep_empty_classes: bool
    """train the classes without a box too; without it, the detector has no class that neither the training nor the
    validation file has a box of"""
    testdev_images: PathLike | None
    """folder of test images without annotations; their detections go to testdev_predictions_final.json"""
    download_train_data: bool
    """download COCO 2017's training images to data_dir and train on them; a subset downloads only its own images"""
    download_val_data: bool
    """download COCO 2017's validation images to data_dir and evaluate on them"""
    download_test_data: bool
    """download COCO 2017's test images to data_dir and detect in the images of test-dev"""
    num_classes: int | None
    """number of classes; the annotations give it, and a number that contradicts them is an error"""
    image_size: Size
    """input size in pixels, a number or HEIGHTxWIDTH, in multiples of the backbone's patch (14)"""
    resize_mode: Literal["stretch", "letterbox"]
    """stretch the image to the input size, or keep its aspect ratio and pad"""
    white_level: float | None
    """value of white in greyscale pictures of more than 8 bits, such as 4095 for 12 bits; None measures it in the
    training images, and the checkpoint stores it"""
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
    debug: bool
    """overfit a few training images: 100 epochs, no augmentation, an evaluation on the same images every 2 epochs,
    and a verdict at the end. Only the newest checkpoint of an evaluated epoch stays on disk"""
    debug_samples: int
    """images of a debug run"""
    debug_lr: float
    """learning rate of a debug run"""
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
    augmentation: bool
    """augment the training images by the settings of this group; with false, only repeat_threshold applies"""
    scale_range: Sequence[float]
    """smallest and largest factor by which an image is scaled; 0.1,2 is large-scale jitter, 1,1 turns scaling
    off"""
    zoom_out_probability: float
    """probability of placing the image on a canvas of the mean colour, with sides up to twice as long"""
    crop_probability: float
    """probability of a random crop that contains an object"""
    flip_probability: float
    """probability of a horizontal flip"""
    photometric_probability: float
    """probability of changing brightness, contrast, saturation and hue"""
    mosaic_probability: float
    """probability of a mosaic: the image and three others, one in each quadrant, at about half their size. A mosaic
    gets no scaling, zoom-out, crop or copy-paste"""
    copy_paste_probability: float
    """probability of pasting objects of another image into the image, each as the rectangle of its box"""
    multi_scale: float
    """largest change of the input size, as a fraction of image_size: 0.25 draws a size between 0.75 and 1.25 times
    image_size, in whole patches, for each batch. Evaluation always uses image_size"""
    no_augment_fraction: float
    """fraction of the epochs, at the end of training, that show whole images at image_size, with flips and colour
    changes only. A value above 0 gives at least one such epoch, unless there is only one epoch"""
    repeat_threshold: float
    """repeat the images of rare classes: if a class is in a fraction f of the images, below this threshold, its
    images come sqrt(threshold / f) times in an epoch on average, which makes the epoch longer. 0 turns repeats
    off"""
    dino_model: str
    """Hugging Face name or local folder of a DINOv2 model, with or without registers; dinov2-demo is a tiny model
    that comes with the package, for trials without a network"""
    backbone_weights: Literal["pretrained", "random"]
    """random starts from untrained weights"""
    backbone_architecture: Mapping[str, Any]
    """settings of transformers' Dinov2Config that replace the settings of dino_model, as JSON or YAML, such as
    {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3}; needs backbone_weights random"""
    train_backbone: Literal["lora", "full", "none"]
    """lora trains low-rank adapters, full trains every weight of the backbone, none freezes it"""
    lora_rank: int
    """rank r of the adapters"""
    lora_alpha: float
    """scale of the adapters: their output is multiplied by lora_alpha / lora_rank, or with use_rslora by lora_alpha
    / sqrt(lora_rank)"""
    lora_rank_pattern: Mapping[str, int]
    """ranks of single layers, as JSON or YAML, such as {"6-8": 4, "11": 32}; layers are counted from 0"""
    lora_alpha_pattern: Mapping[str, float]
    """lora_alpha of single layers, in the form of lora_rank_pattern"""
    use_rslora: bool
    """rank-stabilised LoRA: multiply the output of the adapters by lora_alpha / sqrt(lora_rank)"""
    use_dora: bool
    """DoRA: train the magnitude of each output of an adapted projection separately from its direction"""
    lora_dropout: float
    """dropout on the input of the adapters"""
    lora_targets: Sequence[Literal["query", "key", "value", "output", "mlp"]]
    """projections of a layer that get adapters: query, key, value, output, or mlp for all linear layers of the
    MLP"""
    lora_layers: int | None
    """number of last layers that get adapters, counted back from the last of feature_layers; None adapts all.
    Layers below run without gradient"""
    feature_layers: Sequence[int] | None
    """backbone layers whose outputs the neck reads, counted from 0; -1 is the last. None splits the layers, from
    the last frozen one to the last, into four equal parts and takes the last layer of each"""
    num_queries: int
    """object queries: the largest number of objects that the detector finds in an image, each scored for every
    class"""
    two_stage: bool
    """start queries at the boxes that the feature levels propose; false starts them at learned places"""
    query_groups: int
    """groups of queries that train side by side, each with its own matching (Group DETR); only the first detects"""
    denoising_queries: int
    """largest number of denoising queries per training image, which start at noisy true boxes and learn to restore
    or reject them (DINO); 0 turns denoising off"""
    decoder_layers: int
    """decoder layers; each layer refines the boxes"""
    hidden_dim: int
    """width of the neck and the decoder"""
    num_heads: int
    """attention heads; must divide hidden_dim"""
    feedforward_dim: int
    """width of the feed-forward network in a decoder layer"""
    decoder_dropout: float
    """dropout in the decoder layers"""
    use_deformable: bool
    """deformable attention; false attends to every position, with sine position encodings on the keys"""
    n_points: int
    """sampling points of deformable attention per head and feature level"""
    feature_scales: Sequence[float]
    """feature levels, as multiples of the patch grid: powers of two from 0.25 to 4"""
    neck_blocks: int
    """convolutional blocks of the neck on each feature level"""
    box_head_dim: int
    """width of the 3-layer box head"""
    set_cost_class: float
    """weight of the classification cost"""
    set_cost_bbox: float
    """weight of the L1 distance of the boxes"""
    set_cost_giou: float
    """weight of the generalized IoU"""
    set_cost_quality: float
    """exponent q of the overlap in the classification cost: scores are multiplied by ((1 + GIoU) / 2) ** q, so that
    the better placed of two queries with equal scores is matched; 0 ignores the overlap"""
    classification_loss: Literal["focal", "varifocal", "iou_aware", "matchability_aware"]
    """focal trains matched queries towards a score of 1; the other losses train the score to predict the box
    quality"""
    loss_weight_class: float
    """weight of the classification loss"""
    loss_weight_bbox: float
    """weight of the L1 box loss"""
    loss_weight_giou: float
    """weight of the generalized IoU loss"""
    focal_alpha: float
    """weight of positives in the focal loss and in the classification cost of the matching"""
    focal_gamma: float
    """focusing exponent of the focal loss and of the classification cost; between 0 and 1 the gradient is
    unbounded"""
    output_dir: PathLike
    """folder for checkpoints, metrics and logs"""
    checkpoint: PathLike | None
    """checkpoint to resume or to evaluate; if it has no training state, training starts from its weights"""
    skip_checkpoint_load: bool
    """ignore the checkpoint and train from scratch"""
    lightweight: bool
    """preset: dinov2-small, adapters on its last layers, 25 queries, 2 decoder layers; explicit settings win over
    it"""
    epochs: int
    """passes over the training images"""
    batch_size: int
    """images per step and process"""
    accumulate_batches: int
    """batches whose gradients are averaged before an optimizer step"""
    learning_rate: float
    """peak learning rate of the neck, the decoder and the heads"""
    backbone_learning_rate: float | None
    """peak learning rate of the backbone; None: learning_rate, or a tenth of it if pretrained weights train in
    full"""
    layer_decay: float | None
    """layer-wise decay of the backbone's learning rate: the rate of layer l of d, counted from 0, is multiplied by
    layer_decay ** (d - l), and the rate of the embeddings by layer_decay ** (d + 1); 1 turns it off. None means 0.8
    where the backbone trains in full, and 1 for adapters"""
    weight_decay: float
    """weight decay of AdamW on matrices; biases, norms, queries and embeddings have none"""
    warmup_fraction: float
    """fraction of the steps, at the beginning, in which the learning rate rises to its peak"""
    schedule: Literal["cosine", "flat_cosine", "wsd"]
    """learning rate after the warm-up: cosine falls at once; flat_cosine is constant and falls at the end; wsd
    (warm-up, stable, decay) is constant too, then falls as 1 - sqrt(progress): fast at first, slowly at the end"""
    cooldown_fraction: float | None
    """fraction of the steps, at the end, in which the learning rate falls; None: 0.5 for flat_cosine, 0.2 for
    wsd"""
    gradient_clip: float
    """largest norm of the gradient; 0 turns clipping off"""
    ema_decay: float
    """decay of the exponential moving average of the weights, which is evaluated and saved; 0 turns it off"""
    ema_warmup: int
    """warm-up of ema_decay: after n steps the decay is at most (1 + n) / (ema_warmup + n); 0 turns the warm-up
    off"""
    val_frequency: int
    """epochs between evaluations; each evaluation writes a checkpoint, and the last epoch is always evaluated"""
    early_stopping_patience: int
    """stop after this number of evaluations in a row without a better AP; 0 trains all epochs"""
    early_stopping_min_delta: float
    """smallest increase over the best AP that counts as better, 0 to 1"""
    seed: int
    """seed of the weights, the order of the images and the augmentation"""
    precision: Literal["auto", "32", "bf16", "16"]
    """number format of the computation; auto is bf16 on a CUDA device or an x86 CPU with instructions for it, and
    32 elsewhere. In an evaluation, auto is the precision of the checkpoint if its training was given one"""
    device: str
    """auto, cpu, cuda, cuda:1 or mps"""
    cache_trunk: PathLike | None
    """folder of the cache; later runs with the same base model, frozen layers, image size and augmentation use it
    too. The run first reports how much disk space the cache takes. Cached images are not read again"""
    cache_views: int | None
    """augmented views to cache per training image: epochs show the views in turn, so that the first cache_views
    epochs fill the cache and later epochs read it; None means one view per four augmented epochs, at most 8"""
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
    logger: Sequence[Literal["tensorboard", "csv", "wandb", "mlflow"]]
    """loggers; wandb and mlflow need their own packages, and an empty list logs nothing"""
    log_dir: PathLike | None
    """folder of the logs, which go to its subfolders tensorboard/, csv/ and so on; None means output_dir"""
    experiment_name: str | None
    """name of the run; the folder of its logs is named by the time and this name"""
    log_frequency: int
    """steps between logs of losses, rates, speed and memory; the first step is logged too"""
    log_layers: bool
    """log the losses of each decoder layer too"""
    log_images: bool
    """log training images with their boxes, in the form that the network gets, and validation images with
    detections"""
    log_images_frequency: int
    """steps between logs of training images; each evaluation logs validation images"""
    memory_monitor: bool
    """print and log the memory that each part takes, and the peak of each epoch"""

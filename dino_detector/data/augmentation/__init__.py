"""Random augmentation of training images, reproducible from seed, epoch and image."""

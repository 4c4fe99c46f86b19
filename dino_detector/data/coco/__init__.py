"""COCO files: read, checked, and turned into arrays of images and boxes."""

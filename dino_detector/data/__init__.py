"""Images and annotations: from COCO files on disk to batches, and boxes back to the pixels they came from."""

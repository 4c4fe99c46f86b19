"""Data types that packages share: boxes, targets, predictions, detections, categories, metrics."""

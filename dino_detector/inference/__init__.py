"""Images in, detections out: detectors, groups of detectors, tiles, and exported files."""

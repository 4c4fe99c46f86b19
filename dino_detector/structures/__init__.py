"""What flows between the rooms: boxes, targets, matches, detections, categories."""

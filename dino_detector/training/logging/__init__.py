"""What a run logs: numbers, histograms, images and a description of itself; docs/tensorboard.md lists the tags."""

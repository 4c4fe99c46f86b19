"""Logs of a training run: numbers, histograms, images and settings; docs/tensorboard.md lists the tags."""

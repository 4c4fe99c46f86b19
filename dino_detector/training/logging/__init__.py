"""What a run logs: numbers, histograms, images and a description of itself; docs/watch_a_run.md lists the tags."""

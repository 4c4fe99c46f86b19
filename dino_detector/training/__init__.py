"""Training with Lightning: module, data, moving average, checkpoints, and the run itself."""

"""Names of files in the output folder of a training run."""

LAST, BEST, FINAL = (f"dino_detector_{kind}.pth" for kind in ("last", "best", "final"))
HISTORY = "history.csv"

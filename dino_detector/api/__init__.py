"""The functions of `dino_detector` in Python: each command as a function, with its settings as keyword arguments."""

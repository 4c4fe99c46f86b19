"""The check of a data set before it is trained on: what it holds, what is wrong with it, what is worth fixing."""

"""Accuracy of several detectors at an equal budget of training time.

Each detector trains in its own process, and one evaluator scores all of them. `job` describes a run, `recorder` writes
its record. `ours`, `deformable_detr` and `rf_detr` are commands that train one system. `rf_detr` runs in another
environment, so `job` and `recorder` import the standard library alone. `runs` starts the processes, `scoring`
evaluates, `summary` and `table` compare. `bccd` converts the data set.
"""

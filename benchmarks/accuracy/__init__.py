"""Detectors side by side: each trains in a process of its own and is scored by the same code.

`job` says what a run is asked to do, `recorder` what it leaves behind. `ours`, `deformable_detr` and `rf_detr` are the
systems; these modules are commands that take a job, and `rf_detr` runs in another environment, so `job` and `recorder`
import nothing but the standard library. `runs` starts them, `scoring` scores, `summary` and `table` compare.
"""

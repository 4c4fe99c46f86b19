"""What a step, a picture or a matching takes: each measurement in a process of its own.

`ours` and `rf_detr` are commands that take the name of a measurement and its settings as JSON; `rf_detr` runs in
another environment, so `clock` and `scenes`, which both use, import no more than it has.
"""

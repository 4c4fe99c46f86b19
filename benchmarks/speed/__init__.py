"""Speed and memory beside RF-DETR; each measurement runs in its own process.

`rows` lists the measurements, `process` starts them, `table` compares. `ours`, `evaluation`, `start` and `rf_detr` are
commands that take the name of a measurement and its arguments as JSON. `rf_detr` runs in another environment, so
`clock` and `scenes` import only packages that both environments have.
"""

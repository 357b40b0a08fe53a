"""One streamed pass over a data set: what excites every neuron most, and the statistics of every channel.

`kerascnn.scan(model, data, layers=..., k=9)` returns a `ScanResult`; `kerascnn.dataset_scan.load(path)` reads one
again.
"""

import importlib

_HOME = {"scan": "scanning", "ScanResult": "result", "load": "result"}


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kerascnn.dataset_scan' has no {name!r}; it has {', '.join(_HOME)}")

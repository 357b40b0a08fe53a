"""One streamed pass over a data set: what excites every neuron most, and the statistics of every channel.

`kerascnn.scan(model, data, layers=..., top=9)` returns a `ScanResult`; `kerascnn.dataset_scan.load(path)` reads one
again. `kerascnn.merge(shards)` combines the scans of its parts into one.
"""

from kerascnn.registry import room

_HOME = {"scan": "scanning", "ScanResult": "result", "load": "result", "merge": "merging"}

__getattr__, __dir__ = room(__name__, _HOME)

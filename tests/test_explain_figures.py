"""The script behind the figures of docs/explain.md makes every figure with its numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kerascnn import explain, models

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))
from explain_figures import make_figures


@pytest.mark.slow
def test_every_method_has_a_figure_and_its_numbers(tmp_path):
    images = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    model = models.tdt_lenet()
    paths = make_figures(model, images, [3, 1], list("abcdefghij"), tmp_path)
    assert {p.stem for p in paths} >= {*explain.EXPLANATIONS.names(), "all"}
    for path in paths:
        assert path.stat().st_size > 1000
        assert path.with_suffix(".npz").exists()
    with np.load(tmp_path / "saliency.npz") as saved:
        np.testing.assert_array_equal(saved["map"], explain.saliency(model, images, [3, 1])[0])

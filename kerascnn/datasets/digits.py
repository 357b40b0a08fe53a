"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, real data that is installed with scikit-learn.

They are the test part of the UCI "Optical recognition of handwritten digits" (Alpaydin and Kaynak 1998): 32x32 bitmaps
whose 4x4 blocks were counted, so that grey levels run from 0 to 16. Here 16 is 255. The source has no split; 360 images
(stratified, always the same ones, whatever the seed) are the test split, so that accuracies can be compared.
"""

import numpy as np

from kerascnn.datasets import register
from kerascnn.datasets.hold_out import stratified
from kerascnn.datasets.image_data import ImageData, Split

NUM_TEST = 360


@register(description="handwritten digits, embedded", image_shape=(8, 8, 1), num_classes=10)
def digits(path=None):
    """1,797 handwritten digits, 8x8 pixels, grey; embedded in scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = Split(images, bunch.target.astype(np.int64))
    keep, held = stratified(everything.labels, NUM_TEST, 0)
    return ImageData(
        name="digits",
        source="scikit-learn's load_digits",
        class_names=tuple("0123456789"),
        train=everything.take(keep),
        test=everything.take(held),
        notes=(f"{NUM_TEST} of the 1,797 digits are the test split, the same ones always.",),
    )

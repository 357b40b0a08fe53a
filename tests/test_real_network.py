"""A real ImageNet network that nobody here wrote or trained, on 1,000 photographs: the figures known of it."""

import shutil
import tarfile

import pytest

from kerascnn import using

pytestmark = pytest.mark.slow


def test_squeezenet_on_the_photographs_of_imagenet(shared_data, tmp_path):
    file, labels = tmp_path / "squeezenet.keras", shared_data / "pretrained" / "imagenet-labels.json"
    shutil.copy(shared_data / "pretrained" / "squeezenet-imagenet.keras", file)
    with tarfile.open(shared_data / "imagenet-samples.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    photographs = tmp_path / "imagenet-samples"

    classifier = using.adopt(file, labels=labels, preprocess="0-255", resize=240, crop=227)
    zebra = using.predict(classifier, photographs / "n02391049_zebra.jpg", top=1).iloc[0]
    assert (zebra.label, round(zebra.probability, 3)) == ("zebra", 1.0)

    measured = using.evaluate(classifier, photographs)
    assert (measured.accuracy, measured.top5) == pytest.approx((0.627, 0.838), abs=0.002)

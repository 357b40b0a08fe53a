"""How evenly images are spread over classes, and what always answering the commonest class would score."""

from dataclasses import dataclass

import numpy as np

# From here on imbalance is said. With two classes the rarer one then has a fifth of the images, where Google's machine
# learning course begins to call a data set moderately imbalanced.
UNEVEN_RATIO = 4
CURE = "To make every class count the same in the loss, give class_weights='balanced'"


@dataclass(frozen=True)
class Balance:
    """How evenly images are spread over classes.

    Attributes:
        commonest, rarest: labels of the classes with most and fewest images, of the classes that have any.
        most, fewest: their numbers of images.
        baseline: accuracy of always answering the commonest class, a fraction.
    """

    commonest: int
    rarest: int
    most: int
    fewest: int
    baseline: float

    @property
    def uneven(self):
        """True if the commonest class has at least four times the images of the rarest one."""
        return self.most >= UNEVEN_RATIO * self.fewest

    def sentence(self, class_names, split="training"):
        """The imbalance in words, for a user."""
        common, rare = (f"'{class_names[label]}'" for label in (self.commonest, self.rarest))
        return (
            f"The classes are unbalanced: {common} has {self.most:,} {split} images, {rare} {self.fewest:,}. "
            f"Always answering {common} would be right for {100 * self.baseline:.1f}% of them, so look at balanced "
            "accuracy and macro F1 too."
        )


def balance(labels, num_classes):
    """The Balance of labels, int (N,), each from 0 to num_classes - 1; N is at least 1."""
    counts = np.bincount(labels, minlength=num_classes)
    commonest = int(counts.argmax())
    rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    most, fewest = int(counts[commonest]), int(counts[rarest])
    return Balance(commonest, rarest, most, fewest, most / len(labels))

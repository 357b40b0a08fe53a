"""The first weights of a new head: a linear classifier on the features of the layers that were lent."""

import keras
import numpy as np

from kerascnn.models.backbone import HEAD

MOST = 20_000  # images, evenly spread, that the classifier learns from
BLOCK = 256
UNSEEN = -10.0  # the score of a class without training images


def start_head(model, data, prepared, balanced=False):
    """Fit the new head of a `backbone` to the training images as they are: logistic regression (scikit-learn's) on
    standardised features.

    Args:
        model: keras.Model of `backbone`, whose last layer is set.
        data: ImageData.
        prepared: its Preprocessing.
        balanced: True lets every class count the same.
    Returns:
        A sentence about what was done.
    """
    from sklearn.linear_model import LogisticRegression

    head, images, labels = model.get_layer(HEAD), data.train.images, data.train.labels
    rows = np.arange(0, len(images), -(-len(images) // MOST))
    body = keras.Model(model.inputs[0], head.input)
    features = np.concatenate(
        [
            np.asarray(body.predict(prepared(images[rows[i : i + BLOCK]]), verbose=0), "float32")
            for i in range(0, len(rows), BLOCK)
        ]
    )
    mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
    method = LogisticRegression(C=0.01, max_iter=300, class_weight="balanced" if balanced else None)
    method.fit((features - mean) / std, labels[rows])
    weights, scores = (method.coef_, method.intercept_)
    if len(weights) == 1:  # of two classes scikit-learn scores the second against the first
        weights, scores = np.concatenate([-weights, weights]) / 2, np.concatenate([-scores, scores]) / 2
    kernel = np.zeros(head.kernel.shape, "float32")
    bias = np.full(head.bias.shape, UNSEEN, "float32")
    kernel[:, method.classes_] = (weights / std).T
    bias[method.classes_] = scores - weights @ (mean / std)
    head.set_weights([kernel, bias])
    return f"The new head starts from a logistic regression on {features.shape[1]:,} features of {len(rows):,} images"

"""A Keras model as a plan of primitive steps: how each layer, operation and activation function opens into them."""

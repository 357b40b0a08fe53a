"""The deconvnet (Zeiler and Fergus 2013)."""

from kerascnn.explain import register
from kerascnn.explain.reverse import unpack, walk_back


@register(source="Zeiler and Fergus 2013", rectifier="relu(g)", fails_randomisation=True)
def deconvnet(model, images, target=None, **options):
    """The deconvnet's reconstruction: unpool with switches, rectify, transposed filters (Zeiler and Fergus 2013).

    It fails the weight-randomisation test (Adebayo et al. 2018): it shows edges of the image more than what the network
    has learned.

    Example:
        maps = kerascnn.explain.deconvnet(model, images, kerascnn.explain.Neuron("conv2", 5))  # of channel 5
    """
    return unpack(walk_back(model, images, target, "deconvnet", **options)[0])

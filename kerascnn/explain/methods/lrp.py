"""Layer-wise relevance propagation (Bach et al. 2015)."""

from kerascnn.errors import UsageError
from kerascnn.explain import register
from kerascnn.explain.relevance import Relevance
from kerascnn.explain.reverse import unpack, walk_back


@register(source="Bach et al. 2015")
def lrp(model, images, target=None, *, epsilon=1e-6, alpha=None, merge_batch_norm=True, **options):
    """Layer-wise relevance propagation (Bach et al. 2015): the score shared out among the pixels.

    Args:
        epsilon: stabiliser of the epsilon rule, above 0; as it goes to 0 the map becomes gradient x input.
        alpha: None, or at least 1: convolutions then use the alpha-beta rule with beta = alpha - 1 (Bach's is 2).
        merge_batch_norm: with `alpha`, batch normalisation directly after or before a convolution or dense layer is
            first merged into it, as zennit does, so that a network has the map of its folded twin; False leaves it a
            layer of its own under the epsilon rule. Without `alpha` it makes no difference.
    Example:
        maps = kerascnn.explain.lrp(model, images, 3, alpha=2)  # the alpha-beta rule with beta = 1
    """
    if not epsilon > 0:
        raise UsageError(f"epsilon must be above 0; received {epsilon!r}.")
    if alpha is not None and not alpha >= 1:
        raise UsageError(f"alpha must be at least 1 (beta is alpha - 1); received {alpha!r}.")
    rules = Relevance(float(epsilon), alpha and float(alpha), merges=bool(alpha and merge_batch_norm))
    return unpack(walk_back(model, images, target, rules, **options)[0])

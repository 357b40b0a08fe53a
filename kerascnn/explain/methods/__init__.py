"""The explanation methods, one file each; `kerascnn.explain` finds them by their `@register(...)`."""

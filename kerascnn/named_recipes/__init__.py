"""The named recipes: the sources' own settings, and ours, one file a source. No file here imports Keras.

A recipe is a function decorated with `@register(...)` that returns a `Recipe`; its docstring says where the settings
come from and what they gave. `chosen=` names the fields, and the builder's arguments, that the source does not print,
so that we had to choose them.
"""

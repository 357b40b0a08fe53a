"""The microscope: a static site with a page for every unit of a network. `kerascnn.microscope(...)` builds it."""

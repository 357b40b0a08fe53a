"""`python -m kerascnn` is the command `kerascnn`."""

from kerascnn.cli import main

main()

"""`python -m tuning ...` is `kerascnn tune ...`."""

import sys

from kerascnn.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "tune")
    main()

"""``python -m duygu``: the command line, also where the ``duygu`` script is not on the path."""

import sys

from duygu.cli import main

if __name__ == "__main__":
    sys.exit(main())

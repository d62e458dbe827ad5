"""The command line: ``negspike convert ...``, the same as ``python -m negspike convert ...``."""

import sys

from negspike.commands import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m qflsec``: the command line."""

from __future__ import annotations

import sys

from qflsec.cli import main

if __name__ == "__main__":
    sys.exit(main())

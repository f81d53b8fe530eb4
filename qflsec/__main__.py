"""``python -m qflsec``: the command line."""

from __future__ import annotations

from qflsec.cli import main

if __name__ == "__main__":
    main()

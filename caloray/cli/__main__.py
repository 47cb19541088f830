"""``python -m caloray.cli``: the same as the ``caloray`` program."""

from __future__ import annotations

__all__: list[str] = []

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Entry point of a Ray job: draw showers from a bundle.

ray job submit --working-dir . -- python jobs/generate.py BUNDLE -n 100000 -o DIR --workers 64
"""

from __future__ import annotations

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))

"""Entry point of a Ray job: mass-produce showers, as one campaign file says.

ray job submit --working-dir . -- python jobs/produce.py configs/produce_demo.yaml --set output=DIR
"""

from __future__ import annotations

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main(["produce", *sys.argv[1:]]))

"""Entry point of a Ray job: compare generated showers with Geant4 showers.

ray job submit --working-dir . -- python jobs/evaluate.py SHARDS SHOWERS -o DIR
"""

from __future__ import annotations

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))

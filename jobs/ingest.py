"""Entry point of a Ray job: turn CaloChallenge HDF5 files into shards.

ray job submit --working-dir . -- python jobs/ingest.py FILES... -o DIR
"""

from __future__ import annotations

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "ingest", "--ray", *sys.argv[1:]]))

"""Entry point of a Ray job: search better settings, as one campaign file says.

ray job submit --working-dir . -- python jobs/tune.py configs/tune_demo.yaml --set output=DIR
"""

from __future__ import annotations

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))

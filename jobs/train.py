"""Entry point of a Ray job: train every component of a config.

ray job submit --working-dir . -- python jobs/train.py configs/demo.yaml
"""

from __future__ import annotations

import sys

from caloray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

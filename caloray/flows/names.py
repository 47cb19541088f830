"""Names of the back-ends, apart from them, so that the command line can offer them without loading torch."""

from __future__ import annotations

__all__ = ["Backend"]

from typing import Literal

Backend = Literal["auto", "native", "torch", "jacobi", "native-bf16"]
"""What inverts a flow; "auto" is the fastest exact one of the machine."""

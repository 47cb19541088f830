"""C++ kernels behind a plain C interface: optional, built on the spot, loaded with ctypes."""

from __future__ import annotations

__all__: list[str] = []

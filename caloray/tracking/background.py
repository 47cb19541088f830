"""A tracker whose server may take its time: everything is handed to a thread that talks to it."""

from __future__ import annotations

__all__ = ["BackgroundTracker"]

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caloray.errors import CaloRayError
from caloray.tracking.state import Status

if TYPE_CHECKING:
    from caloray.tracking import Tracker

_LOG = logging.getLogger("caloray.tracking")
_PATIENCE = {"KILLED": 0.5}
_LONG_PATIENCE = 60.0


class BackgroundTracker:
    """Does what another tracker does, one call after the other, while its caller goes on.

    :meth:`close` waits for what is left, but not long after a stop: what the server has not got by then is
    on disk, and ``caloray track sync`` sends it.

    Args:
        tracker: The one that talks to the server; used by the thread alone.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="caloray-tracking", daemon=True)
        self._thread.start()

    def start(self, name: str, components: Sequence[str], params: Mapping[str, object]) -> None:
        """Open (or reopen) the run."""
        self._calls.put(lambda: self._tracker.start(name, components, params))

    def poll(self) -> None:
        """Send what the history has got, unless the thread is still busy with something."""
        if self._calls.empty():
            self._calls.put(self._tracker.poll)

    def artifact(self, name: str, path: Path) -> None:
        """Attach a file or directory."""
        self._calls.put(lambda: self._tracker.artifact(name, path))

    def summary(self, values: Mapping[str, float]) -> None:
        """Record final numbers."""
        self._calls.put(lambda: self._tracker.summary(values))

    def component_ended(self, component: str, status: Status) -> None:
        """Close one component's child run."""
        self._calls.put(lambda: self._tracker.component_ended(component, status))

    def child(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        histories: Mapping[str, str],
    ) -> None:
        """Open (or reopen) a further child run."""
        self._calls.put(lambda: self._tracker.child(name, params, tags, histories))

    def child_ended(self, name: str, status: Status, values: Mapping[str, float]) -> None:
        """Close such a child run."""
        self._calls.put(lambda: self._tracker.child_ended(name, status, values))

    def close(self, status: Status) -> None:
        """Close the run and wait for the thread, for a while."""
        self._calls.put(lambda: self._tracker.close(status))
        self._calls.put(None)
        self._thread.join(_PATIENCE.get(status, _LONG_PATIENCE))
        if self._thread.is_alive():
            _LOG.warning("MLflow has not received everything; `caloray track sync` sends the rest")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except CaloRayError as error:  # tracking never stops the work
                _LOG.warning("tracking: %s", error.message)

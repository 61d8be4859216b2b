"""Files of tests shared out among processes, also when one of them dies."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from xdist.scheduler import LoadFileScheduling

__all__ = ["FileScheduling"]


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]
    """``--dist loadfile`` that goes on without a worker that died.

    xdist 3.8's own hands out the dead worker's finished files again, of which no end is ever told, and lets a new
    worker wait for a second test where there is one only: the run then hangs (its issues 1323, 1327 and 1378).
    """

    def remove_node(self, node: Any) -> str | None:
        """The test that ``node`` died of; what it had not begun waits for another worker."""
        left = {
            scope: [name for name, done in tests.items() if not done]
            for scope, tests in self.assigned_work[node].items()
        }
        names = [name for names in left.values() for name in names]
        self.assigned_work[node] = {}
        super().remove_node(node)
        for scope, tests in left.items():
            if waiting := [name for name in tests if name != names[0]]:
                self.workqueue[scope] = dict.fromkeys(waiting, False)
        self._hand_out()
        return names[0] if names else None

    def schedule(self) -> None:
        """As before, and a worker that came later gets two tests, or is told that there are no more."""
        first = self.collection is None
        super().schedule()
        if not first:
            self._hand_out()

    def _reschedule(self, node: Any) -> None:
        """As before; not for a worker that looks for its tests yet, nor is one that has died meanwhile an error."""
        if node in self.registered_collections:
            with suppress(OSError):  # its death is told next, and `remove_node` takes back what was to be sent
                super()._reschedule(node)

    def _hand_out(self) -> None:
        for node in self.nodes:
            ready = node in self.registered_collections
            while ready and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
                self._reschedule(node)

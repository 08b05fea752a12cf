"""The tracked objects of a state by id, held weakly: what nothing refers to any more leaves, and its id is noted."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import ref

from holdfast.engine.values import Tracked


class Objects:
    """A table of tracked objects that keeps none of them alive."""

    __slots__ = ("_refs", "lost")

    def __init__(self) -> None:
        self._refs: dict[int, ref[Tracked]] = {}
        self.lost: list[int] = []
        """The ids of those that left, until they are taken."""

    def __setitem__(self, id: int, thing: Tracked) -> None:
        def gone(mine: ref[Tracked], refs: dict[int, ref[Tracked]] = self._refs, lost: list[int] = self.lost) -> None:
            if refs.get(id) is mine:
                del refs[id]
                lost.append(id)

        self._refs[id] = ref(thing, gone)

    def __getitem__(self, id: int) -> Tracked:
        found = self.get(id)
        if found is None:
            raise KeyError(id)
        return found

    def __len__(self) -> int:
        return len(self._refs)

    def get(self, id: int) -> Tracked | None:
        """The object, or None if there is none any more."""
        found = self._refs.get(id)
        return None if found is None else found()

    def update(self, things: Iterable[tuple[int, Tracked]]) -> None:
        """Add several."""
        for id, thing in things:
            self[id] = thing

    def values(self) -> list[Tracked]:
        """All that are left."""
        return [thing for one in list(self._refs.values()) if (thing := one()) is not None]

    def take_lost(self) -> list[int]:
        """The ids of those that left since the last call."""
        taken = self.lost[:]
        del self.lost[: len(taken)]
        return taken

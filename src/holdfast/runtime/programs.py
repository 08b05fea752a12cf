"""Programs: those of claimed instances come out of the store, those of children go into it. Runs none of them."""

from __future__ import annotations

from collections.abc import Collection

from holdfast.errors import ProgramError
from holdfast.ids import ProgramHash
from holdfast.model.instance import StoredProgram
from holdfast.ports import Store
from holdfast.registry import Registry
from holdfast.runtime.patience import patiently
from holdfast.workflow import WORKFLOWS, definition_of


class Programs:
    """The programs that one worker needs."""

    def __init__(self, *, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._new: dict[ProgramHash, StoredProgram] = {}
        self._kept: set[ProgramHash] = set()

    async def load(self, hashes: Collection[ProgramHash]) -> dict[ProgramHash, str]:
        """Make programs runnable that are not yet; why they cannot be, of those that cannot."""
        wanted = {hash for hash in hashes if self._registry.get(hash) is None}
        broken: dict[ProgramHash, str] = {}
        if not wanted:
            return broken
        stored = await patiently(lambda: self._store.load_programs(sorted(wanted)))
        for program in stored:
            try:
                self._registry.link(program)
            except ProgramError as error:
                broken[program.hash] = str(error)
            except Exception as error:  # noqa: BLE001 - linking imports user modules
                broken[program.hash] = f"its program cannot be loaded here: {type(error).__name__}: {error}"
        for hash in wanted - {program.hash for program in stored}:
            broken[hash] = f"its program {hash} is not in the store"
        return broken

    def of_child(self, workflow: str) -> ProgramHash:
        """The program with which a child begins; the next `keep` stores it. Raises ProgramError, CompileError."""
        cls = WORKFLOWS.get(workflow)
        if cls is None:
            raise ProgramError(f"no workflow {workflow!r} is defined here")
        definition = definition_of(cls)
        if definition.hash not in self._kept:
            self._new[definition.hash] = self._registry.stored(definition)
        return definition.hash

    async def keep(self) -> None:
        """Store what children need: before them, so that it is there when they are."""
        if self._new:
            programs, self._new = list(self._new.values()), {}
            await patiently(lambda: self._store.save_programs(programs))
            self._kept.update(program.hash for program in programs)

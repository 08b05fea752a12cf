"""An instance's state as flat entries of JSON: what changed since the last save, all of it, and back again.

Keys: `m` the machine; `b<id>` a branch; `o<id>` a tracked object; `c<id>` a pending call; `q<id>` a message;
`self` the workflow object; `<frame>.<name>` a variable; `o<id>.value` a result; `b<id>.value` what a sleep gives.
Variables that share mutable objects are one entry, `=<key>`, so that two names for one list stay one list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.codec import Decoder, Encoder, dumps, loads, raw
from holdfast.engine.branch import Frame, OnTime
from holdfast.engine.cut import cut, paste
from holdfast.engine.events import GiveUpChild, StartCall
from holdfast.engine.functions import NAMED
from holdfast.engine.machine import Machine
from holdfast.engine.record import ask_anew, branch_record, call_record, object_record, restore
from holdfast.engine.values import CURRENT, Future, Tracked
from holdfast.errors import DecodeError, EncodeError

Entries = dict[str, Any]
"""A whole state, or a change of one, by key."""

_SIMPLE = frozenset((type(None), bool, float, str))
_MISSING = object()
_kind_of: Callable[[object], type[Any]] = type


class Change:
    """What a save writes: new entries, keys that are gone, and cuts of entries that were there before."""

    __slots__ = ("cuts", "gone", "put")

    def __init__(self) -> None:
        self.put: Entries = {}
        self.gone: dict[str, None] = {}
        self.cuts: Entries = {}

    def __bool__(self) -> bool:
        return bool(self.put or self.gone or self.cuts)

    def concerns(self, key: str) -> bool:
        """Whether it says anything of this entry."""
        return key in self.put or key in self.gone or key in self.cuts

    def write(self, key: str, entry: Any) -> None:
        """The entry is there, with this content."""
        self.put[key] = entry
        if self.gone:
            self.gone.pop(key, None)
        if self.cuts:
            self.cuts.pop(key, None)

    def cut(self, key: str, piece: list[Any]) -> None:
        """The entry is there, with the content that this cut makes of what it was before the whole change."""
        self.cuts[key] = piece
        self.gone.pop(key, None)

    def drop(self, key: str) -> None:
        """The entry is gone."""
        self.put.pop(key, None)
        self.cuts.pop(key, None)
        self.gone[key] = None


@dataclass(slots=True)
class _Group:
    """Variables saved together, because they share objects."""

    key: str
    cells: dict[str, None]
    objects: list[object]
    """The mutable objects in them, held so that their ids stay theirs."""
    saved: bytes
    known: bool = True
    """Whether the store holds these very bytes, so that a cut of them has meaning there."""


class Saver:
    """Remembers what of one machine is saved, and writes only what differs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.simple: dict[str, Any] = {}
        """Variables with plain values, as saved."""
        self.groups: dict[str, _Group] = {}
        """For each other variable the group it is saved with."""
        self.owners: dict[int, _Group] = {}
        """For each mutable object the group it is saved in."""
        self.others: dict[str, Any] = {}
        """The records of all further entries, as saved. They are never changed, only replaced."""
        self.owed: Change | None = None
        """What the next change has to put right in the state this saver was loaded from."""
        self.mail: set[int] = set()
        self.slept: set[str] = set()
        """The branches of which it is saved what their sleep gives."""
        self.refused_in: int | None = None
        """The branch of the variable that could not be saved last."""

    def change(self) -> Change:
        """What has changed since the last call; from now on it counts as saved.

        Raises EncodeError, naming the variable and its line, if a variable that is still needed cannot be saved.
        """
        machine = self.machine
        out, self.owed = self.owed or Change(), None
        token = CURRENT.set(machine)
        # Objects are held while their entries are compared: none may be collected halfway. The root is held anyway.
        held = machine.objects.values() if len(machine.objects) > 1 else []
        try:
            if ended := self._ended(out):
                self._forget(ended, out)
            dirty: dict[str, Any] = {}
            for branch in machine.touched_branches.values():
                key, wait = branch.key, branch.wait
                if branch.task.branch is None:
                    self._drop(key, out)
                    self._awake(key, out)
                    continue
                self._put(key, branch_record(branch), out)
                if type(wait) is OnTime and wait.result is not None:
                    self.slept.add(key)
                    dirty[f"{key}.value"] = wait.result
                elif key in self.slept:
                    self._awake(key, out)
                for frame in branch.frames:
                    if not frame.dirty:
                        continue
                    point = frame.code.awaits[frame.block]
                    assert point is not None
                    saved, bound, head = frame.saved, frame.vars, frame.id
                    for name in frame.dirty & point.keep:
                        saved[name] = cell = f"{head}.{name}"
                        value = bound.get(name, _MISSING)
                        if value is _MISSING:
                            self._forget((cell,), out)
                            # An older value may be in the state although this saver never wrote it.
                            out.drop(cell)
                        else:
                            dirty[cell] = value
                    frame.dirty.clear()
            for thing in machine.touched.values():
                self._put(f"o{thing.id}", object_record(thing), out)
                if isinstance(thing, Future) and thing.state == "done":
                    value = thing.error if thing.error is not None else thing.result_value
                    dirty[f"o{thing.id}.value"] = value
            if machine.self_object is not None and (vars(machine.self_object) or "self" in self.groups):
                # Without attributes it is written where it had some.
                dirty["self"] = vars(machine.self_object)
            if dirty:
                self._save(dirty, out)
            self._calls_and_messages(out)
            machine.touched.clear()
            machine.touched_branches.clear()
            held.clear()
            if machine.objects.lost:
                self._forget(self._lost(out), out)
            meta = {"n": machine.next_id, "cancel": machine.cancel_asked, "root": machine.root and machine.root.id}
            self._put("m", meta, out)
        finally:
            CURRENT.reset(token)
        return out

    def whole(self) -> Entries:
        """All entries as last saved."""
        entries: Entries = {**self.others, **self.simple}
        for group in {id(g): g for g in self.groups.values()}.values():
            entries[group.key] = raw(group.saved)
        return entries

    def size(self) -> int:
        """About how many bytes a whole state takes."""
        groups = {id(g): len(g.saved) for g in self.groups.values()}
        return 100 * len(self.others) + sum(groups.values()) + 24 * len(self.simple)

    # --- entries other than variables

    def _put(self, key: str, record: Any, out: Change) -> None:
        if self.others.get(key) != record:
            self.others[key] = out.put[key] = record
            if out.gone or out.cuts:
                out.write(key, record)

    def _drop(self, key: str, out: Change) -> None:
        if self.others.pop(key, None) is not None:
            out.drop(key)

    def _calls_and_messages(self, out: Change) -> None:
        machine = self.machine
        for id in machine.touched_calls:
            call = machine.calls.get(id)
            if call is None:
                self._drop(f"c{id}", out)
            else:
                self._put(f"c{id}", call_record(call), out)
        machine.touched_calls.clear()
        if machine.mailbox or self.mail:
            for id in [id for id in self.mail if id not in machine.mailbox]:
                self.mail.discard(id)
                self._drop(f"q{id}", out)
            for id, message in machine.mailbox.items():
                if id not in self.mail:
                    self.mail.add(id)
                    self._put(f"q{id}", list(message), out)

    def _lost(self, out: Change) -> list[str]:
        """The results of objects that nothing refers to any more; they leave the state."""
        lost = self.machine.objects.take_lost()
        for id in lost:
            self._drop(f"o{id}", out)
        return [f"o{id}.value" for id in lost]

    # --- variables

    def _awake(self, branch: str, out: Change) -> None:
        """What this branch's sleep would have given is not needed any more."""
        if branch in self.slept:
            self.slept.discard(branch)
            self._forget((f"{branch}.value",), out)

    def _ended(self, out: Change) -> list[str]:
        """The variables of frames that ended, those that their frames need no more, and the results of lost objects."""
        machine = self.machine
        cells = self._lost(out) if machine.objects.lost else []
        if machine.popped:
            for frame in machine.popped:
                cells += frame.saved.values()
            machine.popped.clear()
        for branch in machine.touched_branches.values():
            for frame in branch.frames:
                saved, point = frame.saved, frame.code.awaits[frame.block]
                if saved and point is not None:
                    keep, bound = point.keep, frame.vars
                    for name in [name for name in saved if name not in keep or name not in bound]:
                        cells.append(saved.pop(name))
        return cells

    def _forget(self, cells: Iterable[str], out: Change) -> None:
        """These variables are unbound, no longer needed, or their frames are gone."""
        left: dict[str, Any] = {}
        touched: dict[int, _Group] = {}
        for cell in cells:
            if cell in self.simple:
                del self.simple[cell]
                out.drop(cell)
            group = self.groups.pop(cell, None)
            if group is not None:
                del group.cells[cell]
                touched[id(group)] = group
        for group in touched.values():
            left.update(dict.fromkeys(group.cells, _MISSING))
            self._dissolve(group, out)
        if left:
            # What shared objects with them is saved anew without them.
            self._resave({cell: self._value(cell) for cell in left}, out)

    def _dissolve(self, group: _Group, out: Change) -> None:
        self._disown(group)
        for cell in group.cells:
            self.groups.pop(cell, None)
        out.drop(group.key)

    def _value(self, cell: str) -> Any:
        """The present value of a cell."""
        head, _, name = cell.partition(".")
        if cell == "self":
            return {} if self.machine.self_object is None else self.machine.self_object.__dict__
        if head.startswith("b"):
            wait = self.machine.branches[int(head[1:])].wait
            assert isinstance(wait, OnTime)
            return wait.result
        if head.startswith("o"):
            future = self.machine.objects[int(head[1:])]
            assert isinstance(future, Future)
            return future.error if future.error is not None else future.result_value
        for branch in self.machine.branches.values():
            for frame in branch.frames:
                if frame.id == int(head):
                    return frame.vars[name]
        raise KeyError(cell)

    def _save(self, dirty: Mapping[str, Any], out: Change) -> None:
        composed: dict[str, Any] = {}
        for cell, value in dirty.items():
            kind = _kind_of(value)
            if kind in _SIMPLE or (kind is int and -(2**53) < value < 2**53):
                if kind is float and not (-1e308 < value < 1e308):
                    composed[cell] = value
                    continue
                if kind is str and not value.isascii():
                    composed[cell] = value
                    continue
                old = self.simple.get(cell, _MISSING)
                if type(old) is kind and old == value and (value != 0 or repr(old) == repr(value)):
                    continue
                if cell in self.groups:
                    self._forget((cell,), out)
                self.simple[cell] = value
                out.write(cell, value)
            else:
                composed[cell] = value
        if composed:
            self._resave(composed, out)

    def _resave(self, cells: dict[str, Any], out: Change) -> None:
        """Encode these variables with all they share objects with, and write the groups that differ."""
        pending = dict(cells)
        while pending:
            cell, value = next(iter(pending.items()))
            members = {cell: value}
            before = self.groups.get(cell)
            if before is not None:
                for other in before.cells:
                    members.setdefault(other, pending.get(other, _MISSING))
            encoder, trees = self._encode(members)
            # Whatever these objects are also part of joins the group, and may bring more.
            while True:
                more: dict[str, Any] = {}
                for met in encoder.objects:
                    owner = self.owners.get(id(met))
                    if owner is not None and self._joins(met):
                        for other in owner.cells:
                            if other not in members:
                                more[other] = pending.get(other, _MISSING)
                if not more:
                    break
                members.update(more)
                encoder, trees = self._encode(members)
            self._write(members, encoder, trees, out)
            for done in members:
                pending.pop(done, None)

    def _encode(self, members: dict[str, Any]) -> tuple[Encoder, list[tuple[str, Any]]]:
        encoder = Encoder()
        trees: list[tuple[str, Any]] = []
        for cell in sorted(members):
            value = members[cell]
            if value is _MISSING:
                value = members[cell] = self._value(cell)
            try:
                trees.append((cell, encoder.encode(value)))
            except EncodeError as error:
                raise self._unsavable(error, cell, value) from error
        return encoder, trees

    def _unsavable(self, error: EncodeError, cell: str, value: Any) -> EncodeError:
        what = "an attribute of the workflow object cannot be saved" if cell == "self" else _UNSAVABLE_RESULT
        head, _, name = cell.partition(".")
        self.refused_in = None
        for branch in self.machine.branches.values():
            for frame in branch.frames:
                if str(frame.id) == head:
                    what = _unsavable_variable(name, value, frame)
                    self.refused_in = branch.task.id
        return EncodeError(f"{what}: {error}", path=error.path, kind=error.kind)

    def _write(self, members: dict[str, Any], encoder: Encoder, trees: list[tuple[str, Any]], out: Change) -> None:
        alone = len(trees) == 1
        first, tree = trees[0]
        key = first if alone else f"={first}"
        saved = dumps(tree if alone else [list(pair) for pair in trees])
        olds = {id(g): g for cell in members if (g := self.groups.get(cell)) is not None}
        piece: list[Any] | None = None
        if len(olds) == 1:
            (old,) = olds.values()
            if old.key == key and old.saved == saved and old.cells.keys() == members.keys():
                self._own(old, encoder)
                return
            if old.key == key and old.known and not out.concerns(key):
                piece = cut(old.saved, saved)
        for old in olds.values():
            self._dissolve(old, out)
        for cell in members:
            if cell in self.simple:
                del self.simple[cell]
                out.drop(cell)
        group = _Group(key, dict.fromkeys(members), [], saved)
        for cell in members:
            self.groups[cell] = group
        self._own(group, encoder)
        if piece is None:
            out.write(key, raw(saved))
        else:
            out.cut(key, piece)

    def _joins(self, met: object) -> bool:
        """Whether two variables that reach `met` must be saved together: not if it cannot change, or has its own entry."""
        if isinstance(met, tuple | frozenset | Tracked) or type(met) in NAMED:
            return False
        return met is not self.machine.self_object

    def _own(self, group: _Group, encoder: Encoder) -> None:
        self._disown(group)
        group.objects = [met for met in encoder.objects if self._joins(met)]
        for met in group.objects:
            self.owners[id(met)] = group

    def _disown(self, group: _Group) -> None:
        for met in group.objects:
            if self.owners.get(id(met)) is group:
                del self.owners[id(met)]
        group.objects = []


_UNSAVABLE_RESULT = "the result of a task cannot be saved"


def _unsavable_variable(name: str, value: Any, frame: Frame) -> str:
    point = frame.code.awaits[frame.block]
    assert point is not None
    if not name.startswith("_hf"):
        who = f"the variable {name!r}"
    else:
        who = "the iterator of a loop" if isinstance(value, Iterator) else "a part of an expression"
    return f'{who} is still needed after the await in line {point.line} of "{frame.code.file}", and cannot be saved'


def fold(entries: Entries, put: Mapping[str, Any], gone: Iterable[str], cuts: Mapping[str, Any]) -> None:
    """Apply one saved change to a state. Entries that were cut stay bytes until they are `read`."""
    for key, piece in cuts.items():
        if key not in entries:
            raise DecodeError(f"a saved change is one of {key[:40]!r}, which is not there")
        entries[key] = paste(_text(entries[key]), piece)
    for key in gone:
        entries.pop(key, None)
    entries.update(put)


def read(entries: Entries) -> Entries:
    """The state after all folding: every entry a tree again."""
    return {key: loads(entry) if type(entry) is bytes else entry for key, entry in entries.items()}


def _text(entry: Any) -> bytes:
    return entry if type(entry) is bytes else dumps(entry)


def renewed(machine: Machine) -> Saver:
    """A saver for a machine of which nothing counts as saved: its first change is the whole state."""
    machine.popped.clear()
    machine.touched_branches.update(machine.branches)
    machine.touched.update({thing.id: thing for thing in machine.objects.values()})
    machine.touched_calls.update(machine.calls)
    for branch in machine.branches.values():
        for frame in branch.frames:
            frame.saved.clear()
            frame.dirty.update(frame.vars)
    return Saver(machine)


def load(machine: Machine, entries: Entries) -> Saver:
    """Make an empty machine what these entries describe. Raises DecodeError where they describe nothing."""
    token = CURRENT.set(machine)
    try:
        cells: dict[str, Any] = {}
        grouped: list[list[tuple[str, Any]]] = []
        for key, tree in entries.items():
            if key[0] == "=":
                grouped.append([(cell, value) for cell, value in tree])
            elif key[0].isdigit() or key == "self" or key.endswith(".value"):
                grouped.append([(key, tree)])
        restore_objects = restore(machine, entries)
        for group in grouped:
            decoder = Decoder()
            for cell, tree in group:
                cells[cell] = decoder.decode(tree)
        restore_objects(cells)
        saver = Saver(machine)
        _adopt(saver, machine)
        saver.owed = owed = Change()
        _settle_keys(saver, entries, owed)
        for call in ask_anew(machine, entries):
            machine.commands.append(StartCall(call))
            if call.given_up:
                machine.commands.append(GiveUpChild(call))
            owed.write(f"c{call.id}", call_record(call))
        return saver
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as error:
        if isinstance(error, DecodeError):
            raise
        raise DecodeError(f"the saved state is damaged: {type(error).__name__}: {error}") from error
    finally:
        CURRENT.reset(token)


def _adopt(saver: Saver, machine: Machine) -> None:
    """Count the whole machine as changed once, so that the saver knows what is saved; nothing of it is written."""
    for branch in machine.branches.values():
        machine.touched_branches[branch.task.id] = branch
        for frame in branch.frames:
            frame.dirty = set(frame.vars)
    machine.touched.update((thing.id, thing) for thing in machine.objects.values())
    machine.touched_calls.update(machine.calls)
    saver.change()
    machine.commands.clear()
    machine.notes.clear()


def _settle_keys(saver: Saver, entries: Entries, owed: Change) -> None:
    """Objects that are not shared any more are saved apart from now on: the entries they shared must not come back."""
    whole = saver.whole()
    for key in entries.keys() - whole.keys():
        owed.drop(key)
    for key, tree in whole.items():
        if key not in entries or (key[0] == "=" and entries[key] != loads(dumps(tree))):
            owed.write(key, tree)
    for group in {id(g): g for g in saver.groups.values()}.values():
        # A set may come back in another order: then what is stored says the same in other words.
        group.known = group.key in entries and dumps(entries[group.key]) == group.saved

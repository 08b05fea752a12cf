"""What a fork begins with: from which step, and with which variables changed. Decides; reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from holdfast.arguments import Binder
from holdfast.codec import Tree, decode, dumps, encode
from holdfast.engine import Entries
from holdfast.errors import HoldfastError
from holdfast.model.instance import InstanceView, Status, Step
from holdfast.runtime.resident import row_of
from holdfast.workflow import WORKFLOWS, binder_of, definition_of


def step_to_fork(steps: Sequence[Step], status: Status) -> int:
    """Where a fork goes on from unless told: before the end, or before the cancel that led to it."""
    last = steps[-1].seq
    if status is Status.CANCELLED:
        for step in steps[1:]:
            if any(note[0] == "cancel" for note in row_of(step).get("notes", ())):
                return step.seq - 1
    return last - 1 if status.ended and last > 0 else last


def change(entries: Entries, changes: Mapping[str, Any], view: InstanceView) -> None:
    """Give variables other values, each in the outermost function that has it.

    Values of the parameters of `run` are made to fit their annotations, where the workflow is known here in the form
    that is forked. Raises HoldfastError for names that there are not, ValidationError for values that do not fit.
    """
    parameters = _parameters(view)
    if "start" in entries:
        arguments = entries["start"][1]
        for name in changes:
            if name not in arguments:
                raise HoldfastError(f"there is no argument {name!r}; there are: {_listed(arguments)}")
        entries["start"] = _changed_start(entries["start"], _fitting(parameters, changes))
        return
    cells = {name: _cell_of(entries, name) for name in changes}
    entry = _entry_frame(entries)
    theirs = {name: value for name, value in changes.items() if cells[name][0].partition(".")[0] == entry}
    for name, value in {**changes, **_fitting(parameters, theirs)}.items():
        _put(entries, *cells[name], encode(value))


def _parameters(view: InstanceView) -> Binder | None:
    """What the annotations of `run` demand; None where the workflow is not known here as it was when it began."""
    cls = WORKFLOWS.get(view.name)
    if cls is None or definition_of(cls).hash != view.program:
        return None
    return binder_of(cls)


def _fitting(parameters: Binder | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return values if parameters is None else parameters.fit(values)


def _changed_start(start: Any, values: Mapping[str, Any]) -> Tree:
    """Row 0 with other arguments."""
    attributes, arguments = start
    changed = [attributes, {**arguments, **{name: encode(value) for name, value in values.items()}}]
    if not any(_REFERENCE in dumps(tree) for tree in (start, changed)):
        return changed
    # Objects met again are told by how many came before them, which a change may shift.
    attributes, arguments = decode(start)
    return encode([attributes, {**arguments, **values}])


_REFERENCE = b'"$":"ref"'


def _entry_frame(entries: Entries) -> str:
    """The number of the frame in which `run` itself runs."""
    branch = entries.get(f"b{entries['m']['root']}")
    return str(branch["at"][0][0]) if branch is not None and branch["at"] else ""


def _cell_of(entries: Entries, name: str) -> tuple[str, str]:
    """The cell of a variable, in the outermost function that has it, and the entry in which that lies."""
    # Results of objects and what sleeps give are cells as well, but no variables.
    cells = {key: key for key in entries}
    cells.update({cell: key for key, group in entries.items() if key[0] == "=" for cell, _ in group})
    cells = {cell: key for cell, key in cells.items() if _is_variable(cell)}
    found = sorted((cell for cell in cells if cell.partition(".")[2] == name), key=lambda c: int(c.partition(".")[0]))
    if not found:
        known = _listed({cell.partition(".")[2] for cell in cells})
        raise HoldfastError(f"there is no variable {name!r} at this step; there are: {known}")
    return found[0], cells[found[0]]


def _put(entries: Entries, cell: str, key: str, tree: Tree) -> None:
    if key[0] == "=":
        # The others of the group are numbered together, so it leaves the group without its place being lost.
        entries[key] = [[other if other != cell else "-1.replaced", inner] for other, inner in entries[key]]
    entries[cell] = tree


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _is_variable(cell: str) -> bool:
    frame, _, name = cell.partition(".")
    return frame.isdigit() and not name.startswith("_hf") and name != "self"

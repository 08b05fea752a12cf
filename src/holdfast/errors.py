"""Every error Holdfast raises on its own account. Each says what happened, to what, and what to do now."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from traceback import extract_tb

OWN = str(Path(__file__).parent)
LIBRARIES = (OWN, "<frozen", *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")))
"""Where code lies that is not the user's own."""


class HoldfastError(Exception):
    """The root of all errors of this library; errors of user code never derive from it."""


class ConfigurationError(HoldfastError):
    """A setting, URL, definition or argument is wrong, found before any work was accepted."""


class UnsupportedError(ConfigurationError):
    """The chosen backend does not offer what was asked of it."""


class ValidationError(HoldfastError, ValueError):
    """Arguments do not fit the annotations of the workflow or action they were meant for."""


class CodecError(HoldfastError):
    """The root of errors about values on their way to or from storage."""


class EncodeError(CodecError, TypeError):
    """A value cannot be saved. `path` leads to the offending part, `kind` names its type."""

    def __init__(self, message: str, *, path: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.kind = kind


class DecodeError(CodecError, ValueError):
    """Stored bytes do not decode: corrupt, hostile, or they name a type this process has not imported."""


class ProgramError(HoldfastError):
    """A stored program fails its checks, or names something that no longer exists here."""


class StoreError(HoldfastError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be reached now; the same call may succeed later. Nothing is known to be applied."""


class SchemaError(StoreError):
    """The database's schema is newer than this library, damaged, or not Holdfast's."""


class LeaseLost(StoreError):
    """This worker's lease ended; what it was about to write was dropped, and others own its work now."""

    @classmethod
    def of(cls, worker: str) -> LeaseLost:
        """The error for the worker of this id."""
        return cls(
            f"worker {worker}: its lease ended and others own its work now; nothing was written, enlist under a new id"
        )


class InstanceNotFound(HoldfastError, LookupError):
    """No instance has this id."""


class WorkflowError(HoldfastError):
    """The root of what a caller sees when an instance did not end well and its own exception can't be raised."""


class WorkflowFailed(WorkflowError):
    """The instance failed with an exception whose type this process does not know.

    `original_type` is `module:qualname`, `original_args` what could be read of its arguments,
    `traceback_text` the formatted traceback of the worker.
    """

    def __init__(
        self,
        message: str,
        *,
        original_type: str = "",
        original_args: tuple[object, ...] = (),
        traceback_text: str = "",
    ) -> None:
        super().__init__(message)
        self.original_type = original_type
        self.original_args = original_args
        self.traceback_text = traceback_text


class WorkflowCancelled(WorkflowError):
    """The instance was cancelled."""


class WorkflowParked(WorkflowError):
    """The instance waits for a person: it cannot go on here, and `reason` says why and what to do."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class WaitTimeout(HoldfastError, TimeoutError):
    """The caller's own patience ended; the work goes on."""


class TaskError(HoldfastError):
    """The root of what a caller sees when a job did not end well."""


class TaskFailed(TaskError):
    """The job failed for good.

    `original_type` is the name of the exception's class, `original_args` the list of what could be read of its
    arguments, `traceback_text` the formatted traceback of the worker, `reason` why it was not tried again. Where the
    class is known here, the exception itself is the cause.
    """

    def __init__(
        self,
        message: str,
        *,
        original_type: str = "",
        original_args: list[object] | None = None,
        traceback_text: str = "",
        reason: str = "failed",
    ) -> None:
        super().__init__(message)
        self.original_type = original_type
        self.original_args = original_args or []
        self.traceback_text = traceback_text
        self.reason = reason


class TaskCancelled(TaskError):
    """The job was cancelled."""


class JobNotFound(TaskError, LookupError):
    """No job has this id: its result was not kept, or is not kept any longer."""


class ActionTimeout(HoldfastError, TimeoutError):
    """An action ran longer than its timeout, or the worker that ran it was lost."""


class NotInWorkflow(HoldfastError, RuntimeError):
    """Something that has a meaning only inside a workflow was awaited outside of one."""


class NotInJob(HoldfastError, RuntimeError):
    """Something that has a meaning only inside a running task was asked for outside of one."""


class CompileError(ConfigurationError, SyntaxError):
    """A workflow uses something that cannot be kept. Shows every problem with its code, place, reason and rewrite.

    `problems` lists them as objects with `code`, `file`, `line`, `column`, `message` and `hint`.
    """

    problems: tuple[object, ...] = ()

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def words_of(error: BaseException) -> str:
    """What an exception says of itself; where its `__str__` raises, the types of its arguments."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - user code
        return f"({', '.join(type(each).__name__ for each in error.args)})"


def told_with_place(error: BaseException) -> str:
    """An error of the user's own code in a line: the place in their files from where it came, its type and text."""
    if isinstance(error, CompileError):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)]
    place = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
    told = str(error) if isinstance(error, HoldfastError) else f"{type(error).__name__}: {error}".removesuffix(": ")
    return place + told

"""Holdfast: background work that survives crashes, restarts and deploys. Durable workflows in plain Python.

from holdfast import Workflow, action, workflow

@action
async def fetch(user_id: int) -> str: ...

@workflow
class Greeting(Workflow):
    async def run(self, user_id: int) -> str:
        name = await fetch(user_id)
        return f"Hello, {name}"

print(await Greeting().run(42))
"""

from holdfast.app import App, current_app, schedule, start_many
from holdfast.codec import register_type, traceback_of
from holdfast.errors import (
    ActionTimeout,
    CompileError,
    ConfigurationError,
    HoldfastError,
    InstanceNotFound,
    JobNotFound,
    StoreError,
    StoreUnavailable,
    TaskCancelled,
    TaskFailed,
    ValidationError,
    WaitTimeout,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowParked,
)
from holdfast.inject import Depend, State, app_state
from holdfast.model.instance import Status
from holdfast.model.job import Again, Done, Failed, JobStatus, JobView
from holdfast.retry import BackoffPolicy, NoRetry, Retry, RetryMode, RetryPolicy
from holdfast.runtime.client import Handle
from holdfast.runtime.current import CurrentJob, Progress, current_job, report_progress
from holdfast.schedules import CatchUp, Overlap
from holdfast.settings import Settings
from holdfast.sync import App as BlockingApp
from holdfast.task import Action, action
from holdfast.tasks import JobHandle, Task
from holdfast.workflow import Workflow, workflow

__version__ = "0.1.0.dev0"

__all__ = [
    "Action",
    "ActionTimeout",
    "Again",
    "App",
    "BackoffPolicy",
    "BlockingApp",
    "CatchUp",
    "CompileError",
    "ConfigurationError",
    "CurrentJob",
    "Depend",
    "Done",
    "Failed",
    "Handle",
    "HoldfastError",
    "InstanceNotFound",
    "JobHandle",
    "JobNotFound",
    "JobStatus",
    "JobView",
    "NoRetry",
    "Overlap",
    "Progress",
    "Retry",
    "RetryMode",
    "RetryPolicy",
    "Settings",
    "State",
    "Status",
    "StoreError",
    "StoreUnavailable",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "ValidationError",
    "WaitTimeout",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowFailed",
    "WorkflowParked",
    "action",
    "app_state",
    "current_app",
    "current_job",
    "register_type",
    "report_progress",
    "schedule",
    "start_many",
    "traceback_of",
    "workflow",
]

"""The command line: `holdfast …`. Reads arguments, calls the library, shows what it says."""

from __future__ import annotations

import sys

import click

from holdfast.cli.acting import cancel, delete, fork, retry, send, start, wait
from holdfast.cli.bench import bench
from holdfast.cli.check import check
from holdfast.cli.common import Group
from holdfast.cli.demo import demo
from holdfast.cli.doctor import doctor, workers
from holdfast.cli.schedules import schedules
from holdfast.cli.servicebus_emulator import servicebus_emulator
from holdfast.cli.tasks import dlq, tasks
from holdfast.cli.visualize import visualize
from holdfast.cli.web import web
from holdfast.cli.worker import worker
from holdfast.cli.workflows import workflows


@click.group(cls=Group)
@click.version_option(package_name="holdfast")
def main() -> None:
    """Background work that survives crashes, restarts and deploys."""
    # Modules of the application are found where the command is run, as with `python -m`.
    if "" not in sys.path:
        sys.path.insert(0, "")


for command in (start, send, wait, cancel, retry, fork, delete):
    workflows.add_command(command)

for command in (
    worker,
    web,
    workflows,
    schedules,
    tasks,
    dlq,
    workers,
    doctor,
    check,
    visualize,
    demo,
    bench,
    servicebus_emulator,
):
    main.add_command(command)

"""The command line: `holdfast …`. Reads arguments, calls the library, shows what it says."""

from __future__ import annotations

import sys

import click

from holdfast.cli.common import Commands

MODULES = {
    "worker": "worker",
    "web": "web",
    "workflows": "workflows",
    "schedules": "schedules",
    "tasks": "tasks",
    "dlq": "tasks",
    "workers": "doctor",
    "doctor": "doctor",
    "check": "check",
    "visualize": "visualize",
    "demo": "demo",
    "bench": "bench",
    "servicebus-emulator": "servicebus_emulator",
}
"""The module of each command."""


@click.group(cls=Commands, modules=MODULES)
@click.version_option(package_name="holdfast")
def main() -> None:
    """Background work that survives crashes, restarts and deploys."""
    # Modules of the application are found where the command is run, as with `python -m`.
    if "" not in sys.path:
        sys.path.insert(0, "")

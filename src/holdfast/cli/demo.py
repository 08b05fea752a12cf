"""`holdfast demo`: two workers, one workflow, and a SIGKILL in the middle. Nothing in it is scripted but the kill."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from holdfast.app import App
from holdfast.cli.beside import workers_beside
from holdfast.cli.workflows import print_history
from holdfast.model.instance import WorkerView
from holdfast.observe.folding import told
from holdfast.observe.history import StepView, read_history
from holdfast.runtime.client import Handle
from holdfast.workflow import definition_of

USERS = 12
console = Console()


@click.command()
@click.option("--url", help="Run it on this database instead of a SQLite file of its own.")
def demo(url: str | None) -> None:
    """Watch a workflow survive the death of its worker."""
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        os.environ["HOLDFAST_DATABASE_URL"] = url or f"sqlite:///{folder}/demo.db"
        os.environ["HOLDFAST_DEMO_OUTBOX"] = f"{folder}/outbox"
        Path(folder, "outbox").touch()
        raise SystemExit(asyncio.run(_demo(Path(folder))))


async def _demo(folder: Path) -> int:
    from holdfast.cli.demo_app import Welcome, app

    begin = time.monotonic()
    definition = definition_of(Welcome)
    console.print(f"A workflow, compiled from {len(definition.text.splitlines())} lines of program text:\n")
    source = Path(definition.program.functions[definition.program.entry].file).read_text()
    shown = source[source.index("@workflow\n") :].strip()
    console.print(Panel(Syntax(shown, "python", background_color="default", word_wrap=True), border_style="dim"))
    async with app, workers_beside(app, "holdfast.cli.demo_app:app", count=2, logs=folder) as workers:
        handle: Handle[Any] = await Welcome().start(list(range(USERS)), f"{folder}/report")
        console.print(f"Two workers run: {', '.join(str(p.pid) for p in workers)}. Started instance {handle.id}.\n")
        killed = await _watch(app, handle, workers, folder)
        result = await handle.result(timeout=15)
        views = read_history(await app.client.history(handle.id), definition.program)
    console.print("\n[bold]The program as a graph[/bold] (Mermaid):\n")
    # As it is, for whoever copies it: a terminal breaks lines by itself.
    console.print(Text(Welcome.visualize()), soft_wrap=True)
    console.print("\n[bold]What happened[/bold], step by step:\n")
    print_history(views)
    return _verdict(result, killed, folder, time.monotonic() - begin)


async def _watch(
    app: App, handle: Handle[Any], workers: Sequence[asyncio.subprocess.Process], folder: Path
) -> int | None:
    """Show progress, and kill the worker that owns the instance once some of its mails are out."""
    killed: int | None = None
    with Live(Text("…"), console=console, refresh_per_second=12) as live:
        while True:
            view = await handle.view()
            views = read_history(await app.client.history(handle.id), None)
            alive = {worker.id: worker for worker in await app.store.workers(now=app.clock.now())}
            mails = len(Path(folder, "outbox").read_text().splitlines())
            live.update(_progress(views, alive, view.owner, mails, killed))
            if view.status.ended:
                return killed
            owner = alive.get(view.owner or "")
            if killed is None and mails >= 3 and owner is not None:
                os.kill(owner.pid, signal.SIGKILL)
                killed = owner.pid
            await asyncio.sleep(0.08)


def _progress(
    views: Sequence[StepView], alive: dict[str, WorkerView], owner: str | None, mails: int, killed: int | None
) -> Text:
    text = Text()
    for view in views[-4:]:
        said = "; ".join(told(view.events))
        text.append(f"  step {view.seq:>2}  {said if len(said) <= 150 else said[:149] + '…'}\n")
    at = alive.get(owner or "")
    text.append(f"  owner: worker {at.pid}" if at else "  owner: nobody (waiting, or its worker is gone)", "cyan")
    text.append(f"   mails sent: {mails}", "cyan")
    if killed is not None:
        text.append(f"   worker {killed} was killed with SIGKILL", "bold red")
    return text


def _verdict(result: str, killed: int | None, folder: Path, seconds: float) -> int:
    """Compare with what must have happened, from outside of Holdfast."""
    mails = Counter(line.split()[0] for line in Path(folder, "outbox").read_text().splitlines())
    expected = sum(1 for i in range(USERS) if i % 4 != 3)
    wanted = f"{expected} of {USERS} users welcomed, report filed"
    again = sum(count - 1 for count in mails.values())
    good = result == wanted and len(mails) == expected and killed is not None
    console.print(
        f"\nResult: [bold]{result}[/bold]\n"
        f"Worker {killed} was killed in the middle; {expected} mails were due, {len(mails)} went out, "
        f"{again} of them twice (those under way at the kill). {seconds:.1f} s in all.",
        style="green" if good else "red",
    )
    return 0 if good else 1

"""Holdfast's tasks and its peers on one PostgreSQL server, in turn: `python benchmarks/compare_postgres.py --url …`.

The URL names a database from which others can be created: each run of each system has a new one, which is dropped. Jobs that
do nothing are sent in bulk, and then run by one process, and by two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from environments import python_of

HERE = Path(__file__).parent
SYSTEMS: dict[str, list[str]] = {
    "holdfast": [],
    "pgqueuer": ["pgqueuer[asyncpg]", "uvloop"],
    "procrastinate": ["procrastinate", "psycopg[binary]"],
}
FEWER = {"procrastinate": 10}
"""Systems that get so many times fewer jobs, for they would take minutes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="a database of a server on which databases may be created")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="only these systems")
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    report: dict[str, dict[str, float]] = {}
    for name in asked.only or SYSTEMS:
        figures: dict[str, list[float]] = {}
        for processes in (1, 2):
            for _ in range(asked.runs):
                for what, value in measure(name, asked.url, asked.jobs // FEWER.get(name, 1), processes).items():
                    figures.setdefault(what, []).append(value)
        report[name] = {what: statistics.median(values) for what, values in figures.items()}
        if not asked.as_json:
            print(
                f"{name:14}" + "".join(f"{what:>12} {value:9,.0f}" for what, value in report[name].items()), flush=True
            )
    if asked.as_json:
        print(json.dumps(report, indent=2))
    else:
        print(f"\nmedians of {asked.runs} runs, {asked.jobs} jobs that do nothing (procrastinate: a tenth of them)")


def measure(name: str, url: str, jobs: int, processes: int) -> dict[str, float]:
    """The figures of one run, in a database of its own."""
    parts = urlsplit(url)
    asyncio.run(tell(url, "DROP DATABASE IF EXISTS holdfast_bench WITH (FORCE)", "CREATE DATABASE holdfast_bench"))
    own = urlunsplit(parts._replace(path="/holdfast_bench"))
    command = [
        python_of(f"postgres-{name}", SYSTEMS[name]),
        str(HERE / "on_postgres" / "driver.py"),
        name,
        own,
        str(jobs),
        str(processes),
    ]
    try:
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    finally:
        asyncio.run(tell(url, "DROP DATABASE IF EXISTS holdfast_bench WITH (FORCE)"))


async def tell(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()

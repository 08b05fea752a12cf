"""Holdfast and its peers on one PostgreSQL server, in turn: `python benchmarks/compare.py --url postgresql://…`."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from environments import python_of

HERE = Path(__file__).parent
PEERS = {
    "dbos": (["dbos", "psycopg[binary]"], "dbos_peer.py"),
    "absurd": (["absurd-sdk", "absurdctl", "psycopg[binary]"], "absurd_peer.py"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="a PostgreSQL database; each system gets one of its own beside it")
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    report: dict[str, Any] = {"holdfast": holdfast(asked.url, asked.instances, asked.runs)}
    for name, (packages, program) in PEERS.items():
        report[name] = peer(name, packages, program, asked.url, asked.instances, asked.runs)
    if asked.as_json:
        print(json.dumps(report, indent=2))
        return
    measures = ["actions/s", "ms/step of 200", "ms latency"]
    print(f"{'':12}" + "".join(f"{measure:>18}" for measure in measures))
    for name, figures in report.items():
        print(f"{name:12}" + "".join(f"{figures[measure]:18.2f}" for measure in measures))
    print(f"\nmedians of {asked.runs} runs, {asked.instances} instances of three actions; one worker process each")


def database(url: str, name: str) -> str:
    """A new database for one of the systems, so that none pays for what others left behind."""
    own = f"bench_{name}"

    async def create() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"DROP DATABASE IF EXISTS {own} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {own}")
        await connection.close()

    asyncio.run(create())
    return urlunsplit(urlsplit(url)._replace(path=f"/{own}"))


def holdfast(url: str, instances: int, runs: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "holdfast",
        "bench",
        "--json",
        "--url",
        database(url, "holdfast"),
        "--runs",
        str(runs),
    ]
    command += ["--instances", str(instances), "--only", "sequence", "--only", "loop", "--only", "latency"]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["figures"]
    found = {(figure["measure"], figure["of"]): figure["median"] for figure in figures}
    return {
        "actions/s": next(value for (measure, _), value in found.items() if measure == "sequence"),
        "ms/step of 200": found["loop", "200 turns"],
        "ms latency": found["latency", "one action, idle system"],
    }


def peer(name: str, packages: list[str], program: str, url: str, instances: int, runs: int) -> dict[str, float]:
    python = Path(python_of(name, packages))
    own = database(url, name)
    if name == "absurd":
        subprocess.run([python.parent / "absurdctl", "init", "-d", own], check=True, stdout=subprocess.DEVNULL)
    command = [str(python), str(HERE / "peers" / program), own, str(instances), str(runs)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    return json.loads(output.strip().splitlines()[-1])


if __name__ == "__main__":
    main()

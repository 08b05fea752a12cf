"""Holdfast and its peers on one Redis server, in turn: `python benchmarks/compare_redis.py --url redis://…`.

The server is emptied. Each system sends tasks that do nothing, one by one, and then has two processes run them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path

from environments import python_of

HERE = Path(__file__).parent
SYSTEMS: dict[str, list[str]] = {
    "holdfast": [],
    "huey": ["huey", "redis", "hiredis"],
    "taskiq": ["taskiq", "taskiq-redis", "hiredis"],
    "saq": ["saq[redis]", "hiredis", "typing_extensions"],
    "dramatiq": ["dramatiq[redis]", "hiredis"],
    "arq": ["arq", "hiredis"],
    "celery": ["celery[redis]", "hiredis"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="a Redis server; EVERYTHING on it is removed")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds that each task sleeps")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="only these systems")
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    report: dict[str, dict[str, float]] = {}
    for name in asked.only or SYSTEMS:
        kept = {} if asked.sleep else {"run/s, results kept": measure(name, asked, results=True)}
        plain = measure(name, asked, results=False)
        report[name] = plain | {what: figures["run/s"] for what, figures in kept.items()}
        if not asked.as_json:
            print(
                f"{name:12}" + "".join(f"{what:>22} {value:9,.0f}" for what, value in report[name].items()), flush=True
            )
    if asked.as_json:
        print(json.dumps(report, indent=2))
    else:
        print(f"\nmedians of {asked.runs} runs, {asked.jobs} tasks that sleep {asked.sleep} s; two processes each")


def measure(name: str, asked: argparse.Namespace, *, results: bool) -> dict[str, float]:
    """Medians of all figures over the runs."""
    command = [python_of(name, SYSTEMS[name]), str(HERE / "on_redis" / "driver.py"), name, asked.url]
    command += [str(asked.jobs), str(int(results)), str(asked.sleep)]
    found = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(asked.runs)]
    return {what: statistics.median(each[what] for each in found) for what in found[0]}


if __name__ == "__main__":
    main()

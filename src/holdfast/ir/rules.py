"""What a program may reach: its builtins, the modules and attributes closed to it. Applied when compiling and when loading."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

from holdfast.ir.scopes import every_node

BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes callable chr classmethod complex delattr dict divmod enumerate filter
    float format frozenset getattr hasattr hash hex id int isinstance issubclass iter len list map max min next object
    oct ord pow print property range repr reversed round set setattr slice sorted staticmethod str sum tuple type zip
    True False None NotImplemented Ellipsis __debug__""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Builtin functions and types that workflow code may name; all builtin exceptions come on top."""

CLOSED_BUILTINS = {
    "open": "open the file in an @action",
    "input": "wait for a person with `await self.receive(...)`",
    "exec": "write the code out, or run it in an @action",
    "eval": "write the expression out, or evaluate it in an @action",
    "compile": "do it in an @action",
    "globals": "name the globals you need",
    "locals": "name the variables you need",
    "vars": "use `obj.__dict__` in a helper function",
    "dir": "do it in a helper function",
    "__import__": "import at the top of the module",
    "breakpoint": "set the breakpoint in an @action or a helper",
    "exit": "return, or raise an exception",
    "quit": "return, or raise an exception",
    "help": "remove it",
    "memoryview": "use bytes",
    "aiter": "loop with `for` over what an action returned",
    "anext": "loop with `for` over what an action returned",
    "copyright": "remove it",
    "credits": "remove it",
    "license": "remove it",
}
"""Builtins closed to workflow code, each with what to do instead."""

ASKED_BY_INTERPRETER = frozenset(
    """_datetime _io _pydecimal _pylong _strptime collections.abc datetime io re time typing unicodedata warnings
    zoneinfo._common""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Modules that C code of the standard library imports where it is called: formatting a date, a template of `re.sub`,
the division of long numbers. It does so by the `__import__` of whoever calls it. Loading them does nothing but define."""

OPEN_DUNDERS = frozenset(
    """__name__ __qualname__ __doc__ __module__ __class__ __cause__ __context__ __suppress_context__ __notes__
    __traceback__""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Double-underscore attributes that only describe."""

FRAME_ATTRIBUTES = frozenset(
    """tb_frame f_back f_builtins f_code f_globals f_locals f_generator gi_code gi_frame gi_yieldfrom cr_await cr_code
    cr_frame cr_origin ag_await ag_code ag_frame co_code co_consts""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Attributes by which a traceback, a generator or a coroutine leads to the frames of whoever runs it."""

CLOSED_MODULES = frozenset(
    """aiofiles aiohttp aiokafka aiomysql aiopg aioredis aiosqlite anyio asyncpg asyncssh bdb boto3 botocore builtins
    cassandra celery code codeop concurrent copyreg cProfile ctypes curio doctest duckdb elasticsearch ensurepip
    fcntl ftplib gc glob grpc httplib2 httpx imaplib importlib inspect kafka linecache marshal mmap motor
    multiprocessing MySQLdb nntplib oracledb paramiko pdb peewee pickle pika pip pkgutil poplib _posixsubprocess
    profile psycopg psycopg2 pty py_compile pydoc pymongo pymysql pyodbc redis requests rlcompleter runpy select
    selectors shelve shutil signal smtplib socket socketserver sqlite3 ssl stripe subprocess sys tempfile _thread
    threading timeit trace trio tty urllib3 valkey venv webbrowser xmlrpc zipimport""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Top-level modules whose calls block, reach outside, or run code."""

CLOSED_NAMES = frozenset(
    """time.sleep os.system os.popen os.open os.read os.write os.remove os.unlink os.rename os.replace os.mkdir
    os.makedirs os.rmdir os.removedirs os.listdir os.scandir os.walk os.stat os.kill os.killpg os.fork os.forkpty
    os.execv os.execve os.execl os.execle os.execlp os.execlpe os.execvp os.execvpe os.spawnl os.spawnle os.spawnlp
    os.spawnlpe os.spawnv os.spawnve os.spawnvp os.spawnvpe os.posix_spawn os.posix_spawnp os.waitpid os.wait
    os.abort os._exit os.chmod os.chown os.link os.symlink os.truncate os.putenv os.unsetenv os.startfile
    urllib.request.urlopen urllib.request.urlretrieve urllib.request.build_opener io.open io.open_code
    asyncio.run asyncio.to_thread http.client http.cookiejar http.server operator.attrgetter operator.methodcaller
    types.FunctionType types.LambdaType types.CodeType types.new_class typing.get_type_hints typing.ForwardRef
    typing_extensions.get_type_hints
    string.Formatter dataclasses.make_dataclass logging.config platform.popen""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Single names closed in modules that are otherwise open."""

ASYNC_NAMES = frozenset(
    """gather sleep wait_for timeout timeout_at TaskGroup create_task ensure_future wait as_completed shield
    current_task CancelledError TimeoutError InvalidStateError ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION Task
    Future""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""What of asyncio has a durable counterpart."""


def open_builtin(value: Any) -> str | None:
    """The name of a builtin that workflow code may use, whatever it is called where it is used; or None."""
    if not is_builtin(value):
        return None
    name = cast(str, value.__name__)
    exception = isinstance(value, type) and issubclass(value, BaseException)
    return name if exception or name in BUILTINS else None


def is_builtin(value: Any) -> bool:
    """Whether Python has this very object for a builtin name."""
    name = getattr(value, "__name__", None)
    return isinstance(name, str) and value is not None and getattr(builtins, name, None) is value


def closed(dotted: str) -> bool:
    """Whether a dotted name (`module.attr`) is closed to workflow code."""
    dotted = dotted.replace(":", ".")
    if dotted.split(".")[0] in CLOSED_MODULES:
        return True
    return any(dotted == name or dotted.startswith(name + ".") for name in CLOSED_NAMES)


def is_closed(value: object) -> str | None:
    """The dotted name of an object that workflow code must not call, if it is one."""
    if isinstance(value, ModuleType):
        return value.__name__ if closed(value.__name__) else None
    module = getattr(value, "__module__", None) or getattr(type(value), "__module__", "")
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    if module in ("builtins", None) or not isinstance(module, str):
        return None
    module = {"posix": "os", "nt": "os", "_io": "io", "_sqlite3": "sqlite3", "_socket": "socket"}.get(module, module)
    dotted = f"{module}.{name}"
    return dotted if closed(dotted) else None


def hidden_attributes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.pattern, str]]:
    """Places in `tree` that reach behind the declared names, with the attribute they read."""
    for node in every_node(tree):
        if isinstance(node, ast.Attribute) and hidden(node.attr):
            yield node, node.attr
        elif isinstance(node, ast.MatchClass):
            # `case Thing(name=x)` reads the attribute `name`.
            yield from ((node, name) for name in node.kwd_attrs if hidden(name))


def hidden(attribute: str) -> bool:
    """Whether an attribute reaches behind the declared names: double underscores, frames, and what is the engine's own."""
    if attribute.startswith("_hf") or attribute in FRAME_ATTRIBUTES:
        return True
    return attribute.startswith("__") and attribute.endswith("__") and attribute not in OPEN_DUNDERS


def module_chains(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Dotted names in `tree`, the longest ones only, with their node: `a.b.c` for an Attribute over Names."""
    skip: set[int] = set()
    for node in every_node(tree):
        if id(node) in skip or not isinstance(node, ast.Attribute | ast.Name):
            continue
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
            skip.add(id(inner))
        if isinstance(inner, ast.Name):
            parts.append(inner.id)
            yield node, ".".join(reversed(parts))

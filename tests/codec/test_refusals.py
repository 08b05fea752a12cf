"""What can't be saved is refused with its place, its type and the way out."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import random
import socket
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.codec import encode
from holdfast.errors import EncodeError


@dataclass
class User:
    files: list[Any]


class PlainObject:
    pass


class MyList(list):
    pass


class MyStr(str):
    pass


class MyDict(dict):
    pass


async def coroutine_function() -> None: ...


async def async_generator():
    yield 1


def refused(value: object) -> EncodeError:
    with pytest.raises(EncodeError) as caught:
        encode(value)
    return caught.value


def test_the_path_leads_to_the_part():
    error = refused({"user": User([1, 2, 3, lambda: None])})
    assert error.path == "['user'].files[3]"
    assert "at ['user'].files[3]: a lambda cannot be saved" in str(error)
    assert refused(User([{1: {"x": (1, open)}}])).path == ".files[0][1]['x'][1]"
    assert refused({(1, print): 2}).path == ".keys()[0][1]"
    assert refused(open).path == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (x for x in ()), "generator.*make it a list"),
        (lambda: async_generator(), "async generator"),
        (lambda: io.StringIO(), "open file.*keep its path and open it in an @action"),
        (lambda: threading.Lock(), "lock"),
        (lambda: threading.RLock(), "lock"),
        (lambda: threading.Event(), "lock"),
        (lambda: asyncio.Lock(), "asyncio.locks.Lock"),
        (lambda: sys, "module"),
        (lambda: logging.getLogger("shop"), "logger.*ask for it again"),
        (lambda: random.Random(1), "random generator.*keep its seed"),
        (lambda: functools.lru_cache(len), "decorated function.*name the function in the code that calls it"),
        (lambda: functools.partial(int), "partial"),
        (lambda: refused, "a function"),
        (lambda: [].append, "method"),
        (lambda: memoryview(b"a"), "make it bytes"),
        (lambda: PlainObject(), "dataclass or a pydantic model, or teach the codec"),
        (lambda: object(), "object"),
        (lambda: MyList(), "subclass of list"),
        (lambda: MyStr(), "subclass of str"),
        (lambda: MyDict(), "subclass of dict"),
        (lambda: PlainObject, "class .*PlainObject cannot be saved as a value"),
        (lambda: type, "class"),
        (lambda: defaultdict(lambda: 1), "defaultdict"),
        (lambda: defaultdict(PlainObject), "defaultdict"),
        (lambda: 1 << 5_000_000, "too large"),
    ],
)
def test_the_reason_names_the_type_and_the_way_out(make, words):
    value = make()
    error = refused([value])
    assert error.path == "[0]"
    assert error.kind
    import re

    assert re.search(words, str(error)), str(error)


def test_sockets_and_coroutines():
    with socket.socket() as sock:
        assert "socket" in str(refused(sock))
    coroutine = coroutine_function()
    assert "await it" in str(refused(coroutine))
    coroutine.close()

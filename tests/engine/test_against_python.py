"""Programs mean in Holdfast what they mean in Python: results, errors with their contexts, and the order of effects.

`HOLDFAST_EXAMPLES=20000 pytest tests/engine/test_against_python.py` looks for more than CI does.
"""

from __future__ import annotations

import os
import random
from textwrap import dedent, indent
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from tests.engine.harness import Endless, always, compare, never
from tests.engine.programs import Writer

from holdfast.engine import cut

EXAMPLES = int(os.environ.get("HOLDFAST_EXAMPLES", "0"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _small_entries_are_cut_too():
    """Programs of a few lines have small states: let those be written as cuts as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "WORTH", 12)
        yield


@settings(
    max_examples=EXAMPLES or 120,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@given(st.data())
def test_a_random_program_does_what_it_does_in_python(data: st.DataObject) -> None:
    numbers: dict[int, Any] = {}

    def pick(below: int) -> int:
        if below not in numbers:
            numbers[below] = st.integers(0, below - 1)
        return data.draw(numbers[below])

    text = Writer(pick).program()
    mask = data.draw(st.integers(0, 2**16 - 1))
    try:
        compare(text, pick(5), crashes=(never, always, lambda step: bool(mask >> (step % 16) & 1)))
    except (Endless, RecursionError):
        assume(False)


@pytest.mark.parametrize("batch", range(6))
def test_programs_of_known_seeds_do_what_they_do_in_python(batch: int) -> None:
    for seed in range(batch * 20, batch * 20 + 20):
        source = random.Random(seed)
        text = Writer(source.randrange).program()
        try:
            compare(text, source.randrange(5))
        except (Endless, RecursionError):
            continue


HELPERS = """
async def give(v):
    return v

async def grow(v):
    await act(1)
    v.append(9)
    return v

async def pull(it):
    return next(it)

async def into(d):
    d["m"] = 2
    return await act("z")

async def clear(xs):
    await act(1)
    xs.clear()

async def deeper(n):
    return 0 if n == 0 else 1 + await deeper(n - 1)

async def reraise():
    await act(0)
    raise

async def gives(v):
    await act(0)
    return v

async def changes(box, v):
    await act(v)
    box.value, box.items = v, ["new"]
    return v

async def other(box):
    await act(1)
    box.value = max
    return 5

async def rebound(e):
    try:
        await fail("ValueError", 1)
    except ValueError as e:
        pass
    try:
        return [e, await act("must not be")]
    except UnboundLocalError as error:
        return str(error)

def call(f, *args):
    return f(), args

async def told(v):
    try:
        note("begun", v)
        await asyncio.sleep(5)
    finally:
        note("left", v)

async def waited(number):
    match number:
        case 0:
            await asyncio.wait_for(told(1), 3)
        case 1:
            await asyncio.wait_for(asyncio.gather(told(2)), 3)
        case _:
            async with asyncio.timeout(0):
                await asyncio.wait_for(told(3), 3)

async def captured(d):
    await act(1)
    match d:
        case {"self": self, "name": name}:
            await act(2)
            return self, name

class Front(Box):
    @property
    def put(self):
        self.x += 1
        return self.value.put

    def __getattr__(self, name):
        if name != "give":
            raise AttributeError(name)
        self.x += 1
        return self.value.put

class Batch(ExceptionGroup):
    pass

async def swapped(front):
    await act(1)
    front.value = Box(9)
    return 7

async def grouped():
    async with asyncio.TaskGroup() as g:
        g.create_task(slow(1))

class Truth:
    def __init__(self, value):
        self.value = value

    def __bool__(self):
        note("bool", self.value)
        return bool(self.value)

async def slow(v):
    try:
        await asyncio.sleep(5)
    finally:
        await act(v)

async def stumble(v):
    (await asyncio.gather(fail("Oops", v)))[0]
"""

FOUND = {
    "an attribute of what was awaited is read before the next await": """
        kept = Box(1)
        note([(await gives(kept)).value, await changes(kept, 2)])
        note((await gives(kept)).value + await changes(kept, 3))
        note({(await gives(kept)).value: 1, 2: await changes(kept, 4)})
        note(dict(x=(await gives(kept)).value, y=await changes(kept, 5)), 5 < (await gives(kept)).value < await act(9))
        old = kept.items
        (await gives(kept)).items.append(await changes(kept, 6))
        note(old, kept)
        try:
            (await gives(kept)).nope, await act("must not be")
        except AttributeError as e:
            note(str(e))
    """,
    "what is called is looked up before its arguments": """
        kept = Box(min)
        note(kept.value(await other(kept), 7), kept.put(await act(3), 1))
        kept = Box(1)
        note(kept.put(await other(kept)), kept.put(3, 4))
        try:
            xs.nope(await act("must not be"))
        except AttributeError as e:
            note(str(e))
        d = {}
        note("{} {}".format(await act(4), 5), d.setdefault(await act("q"), []).append(await act(3)), d)
    """,
    "a method that a property or a proxy gives is that of before the await": """
        kept, box.value = Front(Box(1)), 5
        note(kept.put(await swapped(kept)), kept.x, kept.value.items)
        kept = Front(Box(2))
        note(kept.give(await swapped(kept)), kept.x, kept.value.items)
    """,
    "a group hears of a cancel in its turn": """
        t = asyncio.create_task(grouped())
        await asyncio.sleep(0)
        note(t.cancel())
        try:
            await t
        except asyncio.CancelledError:
            note("cancelled")
    """,
    "a coroutine in wait_for begins before a cancel is heard": """
        for number in range(3):
            t = asyncio.create_task(waited(number))
            await asyncio.sleep(0)
            note(t.cancel())
            try:
                await t
            except asyncio.CancelledError:
                note("cancelled")
    """,
    "a pattern may capture what is called self": """
        note(await captured({"self": 1, "name": 2}))
    """,
    "an annotation alone in native code evaluates what leads to its target": """
        d = {}
        d[note("k")]: int
        note(box).value: int
        try:
            unbound.value: int
        except UnboundLocalError as e:
            note(str(e))
        await act(d)
        if n > 99:
            unbound = 1
    """,
    "the variable of a comprehension is called by its own name": """
        try:
            [await act(x) for y in [1] for x in x]
        except UnboundLocalError as e:
            note(str(e))
    """,
    "suppress takes tuples in tuples": """
        with suppress(int, OSError), suppress(ValueError):
            await fail("ValueError", 0)
        with suppress((KeyError, (ValueError, TypeError)), OSError):
            await fail("ValueError", 1)
        note("after")
    """,
    "the default of an argument's lambda is evaluated in its turn": """
        kept = Box(1)
        note(call(lambda v=kept.value: v, await changes(kept, 2)))
        note(call(lambda *, v=kept.value: v, await changes(kept, 3)))
    """,
    "a parameter that an except clause unbinds is missed before the next await": """
        note(await rebound(1))
    """,
    "the truth of each operand is asked once": """
        note([i for i in range(2) if Truth(0) or await act(i)])
        if Truth(0) and await act(1):
            note("never")
        if Truth(1) or await act(2):
            note("yes")
        if not (Truth(1) and await act(0)):
            note("no")
        if (Truth(1) and Truth(0)) or (await act(5) and Truth(0)):
            note("never")
        if Truth(1) if Truth(0) else await act(7):
            note("seven")
        while Truth(1) and await act(0):
            note("never")
        assert Truth(1) or await act(9)
    """,
    "assert raises the builtin, whatever has its name": """
        AssertionError = ValueError
        try:
            assert await act(0), "said"
        except BaseException as e:
            note(type(e).__name__, e.args)
    """,
    "a set takes what it is given once something starred stands in it": """
        for _ in range(1):
            try:
                {*[[1]], await act("must not be")}
            except TypeError as e:
                note(str(e))
            try:
                {[2], *[1], await act("must not be")}
            except TypeError as e:
                note(str(e))
        note(sorted({1, *[2, 3], await act(4), *[5]}))
    """,
    "an annotation alone evaluates what leads to its target": """
        d = {}
        d[await act("z")]: int
        (await act(box)).value: int = await act(3)
        (await act(box)).nope: int
        note(d, box)
        for d[await act("k")] in [4, 5]:
            await act(6)
        note(d)
    """,
    "a gather whose time is up ends wait_for with a TimeoutError": """
        for ask in (
            asyncio.gather(asyncio.sleep(3), asyncio.sleep(4)),
            asyncio.gather(slow(1), slow(2)),
            asyncio.gather(slow(1), asyncio.sleep(4), return_exceptions=True),
            asyncio.gather(asyncio.sleep(3), asyncio.gather(slow(3))),
        ):
            try:
                await asyncio.wait_for(ask, 0.765625)
            except TimeoutError as e:
                note("late", seen(e))
    """,
    "what except* raises again, and what it raises anew": """
        for number in range(10):
            try:
                try:
                    if number < 5:
                        await fail("ValueError", 1)
                    raise ExceptionGroup("g", [ValueError(1), TypeError(2), OSError(3)])
                except* ValueError as e:
                    await act(1)
                    match number % 5:
                        case 0:
                            raise
                        case 1:
                            raise e
                        case 2:
                            raise e from KeyError(3)
                        case 3:
                            raise KeyError(4)
                except* TypeError as e:
                    await act(2)
                    raise
            except BaseException as e:
                note(number, seen(e), repr(e.__cause__), e.__suppress_context__)
    """,
    "a group that a clause does not match comes to the next one as it is": """
        group = Batch("g", [ValueError(1)])
        group.job = 7
        try:
            await act(1)
            raise group
        except* KeyError:
            note("never")
        except* Exception as e:
            note(type(e).__name__, e.job, e is group, e.__suppress_context__)
    """,
    "a tuple within a tuple is no class that a clause catches": """
        try:
            try:
                await fail("ValueError", 1)
            except (KeyError, (ValueError,)):
                note("never")
        except TypeError as e:
            note(str(e))
    """,
    "a StopIteration that leaves a coroutine is a RuntimeError": """
        for ask in (pull(iter([])), asyncio.gather(pull(iter([]))), asyncio.create_task(pull(iter([])))):
            try:
                note(await ask)
            except RuntimeError as e:
                note(str(e), repr(e.__cause__), e.__cause__ is e.__context__, seen(e))
        over = iter([1, 2])
        try:
            while True:
                note(await pull(over))
        except RuntimeError as e:
            note(str(e))
        await pull(over)
    """,
    "what is merged into a dict is taken where it stands": """
        d = {"k": 1}
        note(list({**d, await into(d): 1, **d}))
        try:
            note({**n, "a": await act(1)})
        except TypeError as e:
            note(str(e))
    """,
    "a single starred argument is gone through by the call, several where they stand": """
        note(max(*xs, await grow(xs), key=str) if n > 100 else len(xs))
        note(dict(*[[(1, 2)]], b=await act(1)))
        given = [[(1, 2)]]
        note(dict(*given, b=await clear(given)))
        given = [4, 5]
        note(str([*given, await clear(given), *given]))
    """,
    "a lone error in except* is in a group with a tuple": """
        try:
            await fail("Oops", 1)
        except* Oops as e:
            kept = e
        except* ValueError:
            note("never")
        await act(1)
        note(repr(kept), kept.args)
    """,
    "a comprehension with an await keeps names of its own": """
        note([await act(i) for i in xs for j in range(2) if truth(i)])
        i = 50
        note([[await act(i + j) for j in range(2)] for i in range(2)], i)
    """,
    "a value assigned to two targets is evaluated once": """
        c = b = box.put(await act(1))
        note(c, b, box)
    """,
    "a finally without exception sees what is handled around it": """
        try:
            await fail("Oops", 1)
        except Oops:
            try:
                a = 2
            finally:
                await act(1)
                raise ValueError(3)
    """,
    "a helper called in an except clause sees what its caller handles": """
        try:
            await fail("Oops", 1)
        except Oops:
            try:
                await reraise()
            except Oops as e:
                note(seen(e))
            xs[7]
    """,
    "an error thrown into a helper gets the context of each caller": """
        try:
            await fail("Worse", 1)
        except Oops:
            await stumble(2)
    """,
    "as_completed raises inside of the function that asks": """
        try:
            xs[5]
        except IndexError:
            for one in asyncio.as_completed([asyncio.create_task(fail("Oops", 1))]):
                await one
    """,
    "one error out of except* is not wrapped in a group": """
        try:
            raise ExceptionGroup("g", [Oops(1), ValueError(2)])
        except* Exception as e:
            await act(1)
            xs[9]
    """,
    "a timeout of 0 strikes before the next action ends": """
        try:
            async with asyncio.timeout(0):
                await act(1)
        except TimeoutError as e:
            note("late", seen(e))
    """,
    "a task's result may be changed without a variable": """
        t = asyncio.create_task(give([1, 2]))
        await act(1)
        t.result().append(4)
        await act(2)
        note(t.result())
    """,
    "what a sleep gives is the object itself": """
        note((await asyncio.sleep(1, xs)) is xs)
        t = asyncio.create_task(asyncio.sleep(3, xs))
        await act(1)
        xs.append(3)
        await act(1)
        note((await t) is xs, xs)
    """,
    "a nested function names the free variable it misses": """
        def f():
            return late
        try:
            f()
        except NameError as e:
            note(type(e).__name__, str(e))
        if n > 100:
            late = 1
        await act(1)
    """,
    "a function made and used inside a native loop is not needed before it": """
        await act(1)
        for i in xs:
            def double(v):
                return v * 2
            note(double(i))
        match xs:
            case [p, *q]:
                def triple(v):
                    return v * 3
                note(triple(p))
    """,
    "wait_for without a timeout awaits in place": """
        t = asyncio.create_task(act(1))
        note(await asyncio.wait_for(give(5), None))
        note(await t)
    """,
    "a group that stops its body takes its own cancellation back": """
        try:
            async with asyncio.timeout(5):
                async with asyncio.TaskGroup() as g:
                    g.create_task(fail("Oops", 1))
                    try:
                        await asyncio.sleep(3)
                    finally:
                        xs[9]
        except* IndexError as e:
            note(seen(e))
        except* Oops:
            note("oops")
        note(asyncio.current_task().cancelling())
    """,
    "wait counts what ended until its turn came": """
        ts = [asyncio.create_task(asyncio.sleep(1, i), name=str(i)) for i in range(3)]
        done, later = await asyncio.wait(ts, timeout=1)
        note(sorted(t.get_name() for t in done), sorted(t.get_name() for t in later))
    """,
    "simultaneous timers keep their order over a crash": """
        first = asyncio.create_task(asyncio.sleep(2, 1), name="first")
        done, later = await asyncio.wait([first], timeout=2)
        second = asyncio.create_task(asyncio.sleep(2, 1), name="second")
        note(len(done), await act(2))
        done, later = await asyncio.wait([second], timeout=2)
        note(len(done))
    """,
    "an exception and its variable stay one object": """
        err = None
        try:
            await fail("Oops", 1)
        except Oops as e:
            err = e
            await act(1)
            note(e is err)
            try:
                raise e
            except Oops as f:
                await act(1)
                note(f is err, f is e, seen(f))
    """,
    "a return through finally keeps its object": """
        try:
            return xs
        finally:
            xs.append(await act(5))
            xs = None
    """,
    "a key deleted and set again is met again": """
        d = {"k": 1, "m": 2}
        try:
            for key in d:
                note(key)
                del d["k"]
                d["k"] = 2
                await act(1)
        except RuntimeError as e:
            note(seen(e))
    """,
    "captures of a pattern live across the await in its guard": """
        match [1, await act(2), {"k": xs}]:
            case [p, q, {"k": [r, *rest]}] if await act(p) and (z := q):
                await act(1)
                note(p, q, r, rest, z)
    """,
    "what a nested function's own function calls nonlocal is not the workflow's": """
        def outer():
            b = 70
            def inner():
                nonlocal b, c
                b += 1
                c += 1
            inner()
            return b
        note(outer(), b, c)
        await act(1)
    """,
    "an assignment with an operator takes its target's value before the await": """
        total = b
        total += await act(total := 50)
        note(total)
        def bump():
            nonlocal c
            c += 10
            return c
        c += await act(bump())
        note(c)
        xs += await grow(xs)
        ys2 = ys
        ys += [await act(1)]
        note(xs, ys, ys2 is ys)
        try:
            unbound += await act(note("too late"))
        except NameError as e:
            note(type(e).__name__)
        a += (await act(1)) * (await act(2))
        box.items += await give([await act(a)])
        note(a, box)
    """,
    "an operand is taken before a nested function gives its name another value": """
        def bump():
            nonlocal b
            b += 10
            return b
        note(b + await act(bump()), b)
    """,
    "a parameter of a function in a default is not the function's": """
        def f(v=(lambda b: b)(2)):
            return v + b
        note(f(), b)
        await act(1)
    """,
    "calls within calls end where Python ends them": """
        note(await deeper(300))
        try:
            await deeper(5000)
        except RecursionError as error:
            note(type(error).__name__, str(error)[:32])
        await act(1)
    """,
    "what was awaited once cannot be awaited again": """
        once, call, pause = give(1), act(2), asyncio.sleep(0, 3)
        kept = [once, call, pause, asyncio.wait_for(give(4), 9), asyncio.wait([asyncio.create_task(give(5))])]
        for each in kept:
            note(type(await each).__name__)
        await act(6)
        for each in [*kept, once]:
            try:
                note("again", await each)
            except RuntimeError as error:
                note(str(error))
    """,
    "what a task has run cannot be run by another": """
        once = grow([1])
        note(await asyncio.create_task(once))
        note(await asyncio.gather(once, act(2), return_exceptions=True))
        shared = act(3)
        note(await asyncio.gather(shared, shared))
        shared = give(4)
        for each in asyncio.as_completed([shared, shared]):
            note(await each)
    """,
    "what a lambda binds is its own": """
        f = lambda: (b := 5) + b
        note(f(), b)
        await act(1)
    """,
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_once_different_is_the_same(name: str) -> None:
    compare(program(FOUND[name]), 3)


def program(body: str) -> str:
    """A program whose `run` has this body after some variables."""
    head = "\n".join(
        [
            "class W(Workflow):",
            "    def __init__(self):",
            "        self.items = [5]",
            "    async def run(self, n):",
            "        a, b, c, xs, ys, box = 1, n, 3, [1, 2], [3], Box(7)",
        ]
    )
    return f"{HELPERS}\n{head}\n{indent(dedent(body), ' ' * 8)}\n"

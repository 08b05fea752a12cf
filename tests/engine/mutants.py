"""Bugs to plant in the compiler and the engine, each a function over monkeypatch. Measures the generator of programs."""

from __future__ import annotations

import ast
import copy
import importlib
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.codec.registry import BY_TAG
from holdfast.compiler import handlers, lift, liveness, lower, ways
from holdfast.compiler.blocks import Builder
from holdfast.compiler.lift import Lifter
from holdfast.compiler.lower import Lowerer
from holdfast.compiler.ways import Finally, Forget, Loop, Ways
from holdfast.engine import kit, machine
from holdfast.engine.branch import OnTime
from holdfast.engine.frame import Vars
from holdfast.engine.machine import Machine
from holdfast.engine.state import Saver
from holdfast.engine.values import Sleep
from holdfast.engine.waiting import Waiting
from holdfast.task import ACTIONS

# The package has a function of the same name.
link: Any = importlib.import_module("holdfast.engine.link")

Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Plant] = {}


def mutant(plant: Plant) -> Plant:
    MUTANTS[plant.__name__.replace("_", " ")] = plant
    return plant


def _like(node: Any, at: ast.AST) -> Any:
    return ast.fix_missing_locations(ast.copy_location(node, at))


def _branch_on_the_value(self: Any, test: ast.expr, yes: Any, no: Any) -> None:
    """Nothing but the value of a test decides, however that is evaluated."""
    self.build.branch(self.lift(test), yes, no)


# --- the compiler


@mutant
def finally_is_skipped_on_return(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ways, "_innermost", lambda self: None)


@mutant
def finally_is_skipped_on_break(patch: pytest.MonkeyPatch) -> None:
    original = Ways._go

    def go(self: Any, way: Any, depth: int) -> None:
        if way.kind == "return":
            original(self, way, depth)
            return
        around = self.around
        self.around = [
            ctx if not isinstance(ctx, Finally) or i < way.loop else Forget("_") for i, ctx in enumerate(around)
        ]
        original(self, way, depth)
        self.around = around

    patch.setattr(Ways, "_go", go)


@mutant
def a_chained_comparison_evaluates_its_middle_twice(patch: pytest.MonkeyPatch) -> None:
    def chain(self: Any, node: ast.Compare) -> ast.expr:
        parts = [node.left, *node.comparators]
        pairs: list[ast.expr] = [
            _like(ast.Compare(copy.deepcopy(parts[i]), [op], [copy.deepcopy(parts[i + 1])]), node)
            for i, op in enumerate(node.ops)
        ]
        return self.lift(_like(ast.BoolOp(ast.And(), pairs), node))

    patch.setattr(Lifter, "_chain", chain)
    patch.setattr(Lifter, "branch", _branch_on_the_value)


@mutant
def short_circuits_are_evaluated_eagerly(patch: pytest.MonkeyPatch) -> None:
    def eager(self: Any, op: ast.boolop, values: list[ast.expr], node: ast.expr) -> ast.expr:
        return _like(ast.BoolOp(op, self.lift_all(values)), node)

    patch.setattr(Lifter, "_short_circuit", eager)
    patch.setattr(Lifter, "branch", _branch_on_the_value)


@mutant
def an_attribute_of_what_was_awaited_is_read_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Builder, "is_temp", lambda self, name: False)


@mutant
def what_is_called_is_looked_up_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lifter, "_looked_up", lambda self, func: func)


@mutant
def a_gather_that_is_late_is_cancelled(patch: pytest.MonkeyPatch) -> None:
    original = Waiting._limited_ended

    def ended(self: Any, branch: Any, wait: Any) -> None:
        if wait.future.state != "cancelled":
            wait.state = "waiting"
        original(self, branch, wait)

    patch.setattr(Waiting, "_limited_ended", ended)


@mutant
def an_augmented_assignment_reads_late(patch: pytest.MonkeyPatch) -> None:
    def late(self: Any, target: Any, op: ast.operator, value: ast.expr, stmt: ast.stmt) -> None:
        lifted = self.lifter.lift(value)
        self.build.emit(_like(ast.AugAssign(target, op, lifted), stmt))

    patch.setattr(Lowerer, "_augmented", late)


@mutant
def the_else_of_a_loop_runs_after_break(patch: pytest.MonkeyPatch) -> None:
    loops = Lowerer._for, Lowerer._while

    def for_(self: Any, target: Any, iterable: Any, body: Any, orelse: Any, stmt: Any) -> None:
        loops[0](self, target, iterable, body, [], stmt)
        self.body(orelse)

    def while_(self: Any, test: Any, body: Any, orelse: Any) -> None:
        loops[1](self, test, body, [])
        self.body(orelse)

    patch.setattr(Lowerer, "_for", for_)
    patch.setattr(Lowerer, "_while", while_)


@mutant
def the_name_of_an_except_clause_stays_bound(patch: pytest.MonkeyPatch) -> None:
    for module in (handlers, ways):
        patch.setattr(module, "unbind", lambda name, place: _like(ast.Pass(), place))


@mutant
def what_handlers_need_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(liveness, "_on_error", lambda draft, live: set())


@mutant
def a_loop_variable_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    original = liveness._after

    def after(draft: Any, live: Any) -> Any:
        return {name for name in original(draft, live) if name not in ("i", "j")}

    patch.setattr(liveness, "_after", after)


@mutant
def operands_are_not_put_aside(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lifter, "spill", lambda self, node, later: node)


@mutant
def a_walrus_behind_a_name_is_overlooked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lift, "rebinds", lambda nodes, name: False)


@mutant
def a_value_is_evaluated_for_each_target(patch: pytest.MonkeyPatch) -> None:
    original = Lowerer._assign

    def assign(self: Any, targets: Any, value: Any, stmt: Any) -> None:
        for target in targets:
            original(self, [target], copy.deepcopy(value), stmt)

    patch.setattr(Lowerer, "_assign", assign)


@mutant
def continue_leaves_the_loop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lowerer, "_loop_body", _leaving(Lowerer._loop_body))


def _leaving(original: Any) -> Any:
    def loop_body(self: Any, loop: Loop, inside: Any, body: Any) -> None:
        original(self, Loop(loop.after, loop.after), inside, body)

    return loop_body


@mutant
def nothing_is_suppressed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lower, "lower_suppress", lambda it, stmt: it.body(stmt.body))


# --- the engine


@mutant
def managers_hear_of_no_errors(patch: pytest.MonkeyPatch) -> None:
    original = kit.KIT["_hf_close"]
    patch.setitem(kit.KIT, "_hf_close", lambda manager, error: original(manager, None))


@mutant
def aliases_are_saved_apart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Saver, "_joins", lambda self, met: False)


@mutant
def only_assigned_variables_are_saved(patch: pytest.MonkeyPatch) -> None:
    original = link._block

    def block(it: Any, variables: Any) -> Any:
        body, names = original(it, variables)
        stored = {
            node.id
            for native in it.code
            for node in ast.walk(ast.parse(native.source))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        return body, frozenset(names & (stored | {n for n in names if n.startswith("_hf")}))

    patch.setattr(link, "_block", block)


@mutant
def deleted_variables_come_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Vars, "drop", lambda self, name: None)


@mutant
def gather_gives_results_as_they_end(patch: pytest.MonkeyPatch) -> None:
    original = Waiting._gathered

    def gathered(self: Any, it: Any, child: Any) -> None:
        if child in it.children:
            it.children.remove(child)
            it.children.append(child)
        original(self, it, child)

    patch.setattr(Waiting, "_gathered", gathered)


@mutant
def gather_always_raises(patch: pytest.MonkeyPatch) -> None:
    original = Waiting.gather
    patch.setattr(Waiting, "gather", lambda self, items, keep: original(self, items, False))


@mutant
def a_failing_group_leaves_its_tasks_running(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Waiting, "_abort", lambda self, group: setattr(group, "aborting", True))


@mutant
def contexts_of_awaited_errors_are_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "chain", lambda error, handled: None)


@mutant
def contexts_of_native_errors_are_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "handling", lambda error, block, vars: block(vars))


@mutant
def a_callers_frame_is_dropped_with_its_callees(patch: pytest.MonkeyPatch) -> None:
    original = Machine._pop

    def pop(self: Any, branch: Any) -> None:
        original(self, branch)
        if branch.frames:
            self.popped.append(branch.frames[-1].id)

    patch.setattr(Machine, "_pop", pop)


@mutant
def sleep_0_does_not_give_way(patch: pytest.MonkeyPatch) -> None:
    original = machine._WAITS[Sleep]

    def sleep(self: Any, branch: Any, item: Any) -> bool:
        return self._resume(branch, item.result) if item.seconds <= 0 else original(self, branch, item)

    patch.setitem(machine._WAITS, Sleep, sleep)


@mutant
def timers_of_one_moment_fire_backwards(patch: pytest.MonkeyPatch) -> None:
    original = Machine.timer

    def timer(self: Any, at: float, kind: str, target: Any, mark: Any, *, serial: int | None = None) -> int:
        return original(self, at, kind, target, mark, serial=serial if serial is not None else -self.fresh())

    patch.setattr(Machine, "timer", timer)


@mutant
def a_kept_action_comes_back_as_another(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(BY_TAG, ":action", replace(BY_TAG[":action"], decode=lambda name: ACTIONS["engine-tests:make"]))


@mutant
def a_kept_function_comes_back_as_another(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(BY_TAG, ":function", replace(BY_TAG[":function"], decode=lambda name: lambda *_: None))


@mutant
def a_kept_method_is_bound_to_another_object(patch: pytest.MonkeyPatch) -> None:
    original = BY_TAG[":method"].decode

    def method(name: Any) -> Any:
        bound: Any = original(name)
        return types.MethodType(bound.__func__, copy.copy(bound.__self__))

    patch.setitem(BY_TAG, ":method", replace(BY_TAG[":method"], decode=method))


@mutant
def unmatched_parts_of_a_group_are_swallowed(patch: pytest.MonkeyPatch) -> None:
    original = kit.KIT["_hf_rest"]
    patch.setitem(kit.KIT, "_hf_rest", lambda split: original({**split, "rest": None}))


@mutant
def a_cancelled_wait_swallows_the_cancellation(patch: pytest.MonkeyPatch) -> None:
    original = Waiting._cancel_wait

    def cancel_wait(self: Any, branch: Any) -> bool:
        return True if isinstance(branch.wait, OnTime) else original(self, branch)

    patch.setattr(Waiting, "_cancel_wait", cancel_wait)


@mutant
def a_stop_iteration_leaves_a_coroutine_as_it_is(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "as_it_leaves", lambda error: error)

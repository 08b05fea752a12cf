"""Strings in workflow code that go over several lines."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import Workflow, action, workflow
from holdfast.testing import workflow_app


@action
async def echo(value: Any) -> Any:
    return value


async def letter(name: str) -> str:
    text = f"""Dear {name},
  
    two in
"""  # noqa: W293
    return await echo(text)


@workflow
class Strings(Workflow):
    async def run(self, name: str) -> list[Any]:
        query = """
            select *
              from t
        """
        raw = b"""
            \x00"""
        shown = f"""
          {name}
        {await echo(1)}"""
        left = """one
two
    three"""
        joined = "a\
        b"
        match query:
            case """
            select *
              from t
        """:
                found = True
            case _:
                found = False

        def inner() -> str:
            return """
            in
"""

        said = inner()
        total = (1 +
2)  # fmt: skip
        return [await echo(query), raw, shown, left, joined, found, said, total, await letter(name)]


@pytest.mark.parametrize("crash", [False, True])
async def test_strings_over_several_lines_are_as_they_are_written(crash: bool):
    async with workflow_app(crash=crash):
        found = await Strings().run("Ada")
    assert found == [
        "\n            select *\n              from t\n        ",
        b"\n            \x00",
        "\n          Ada\n        1",
        "one\ntwo\n    three",
        "a        b",
        True,
        "\n            in\n",
        3,
        "Dear Ada,\n  \n    two in\n",
    ]

"""What the command line names wrongly is answered with what there is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.common import find_app, find_type, find_workflow
from holdfast.errors import ConfigurationError

MODULE = """
from holdfast import App, Workflow, action, workflow
from naming_shop.other import Elsewhere

app = App("shop", url="sqlite://:memory:")
_hidden = App("hidden", url="sqlite://:memory:")

class Plain:
    class Inner:
        pass

@action
async def price(item: str) -> int:
    return 1

@workflow
class Order(Workflow):
    async def run(self) -> int:
        return 1

@workflow
class Refund(Workflow):
    async def run(self) -> int:
        return 1
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "naming_shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text(MODULE)
    (package / "other.py").write_text("from holdfast import Workflow\nclass Elsewhere(Workflow): ...\n")
    (package / "empty.py").write_text("")
    (package / "needs.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "naming_shop"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("find", "target", "words"),
    [
        (find_app, "naming_shop.app:ap", "module `naming_shop.app` has no App `ap`; it has `app`"),
        (find_app, "naming_shop.empty", "module `naming_shop.empty` has no App `app`; it has none"),
        (
            find_app,
            "naming_shop.app:price",
            "`price` of module `naming_shop.app` is of type Action, and no App; it has `app`",
        ),
        (find_app, "naming_shop.ap:app", "not found (looking for naming_shop.ap:app); did you mean `naming_shop.app`?"),
        (find_app, "nameing_shop.app:app", "did you mean `naming_shop`?"),
        (find_app, "nowhere:app", "the module 'nowhere' is not found (looking for nowhere:app); run this where"),
        (find_app, "naming_shop.app.deeper:app", "the module 'naming_shop.app.deeper' is not found"),
        (find_app, "naming_shop.needs:app", "module `naming_shop.needs` imports `not_installed_here`"),
        (find_app, "naming_shop/app.py:app", "write it as in an import: naming_shop.app:NAME"),
        (find_app, ":app", "names no module"),
        (
            find_workflow,
            "naming_shop.app:Ordr",
            "module `naming_shop.app` has no workflow `Ordr`; it has `Order`, `Refund`",
        ),
        (find_workflow, "naming_shop.app:Plain", "is of type type, and no workflow; it has `Order`, `Refund`"),
        (
            find_workflow,
            "naming_shop.app",
            "names only a module; write naming_shop.app:NAME; it has `Order`, `Refund`",
        ),
        (find_type, "naming_shop.app:Plain.Outer", "has no class `Plain.Outer`"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(find: Callable[[str], Any], target: str, words: str):
    with pytest.raises(ConfigurationError) as caught:
        find(target)
    assert words in str(caught.value)


def test_right_names_are_found():
    assert find_app("naming_shop.app").name == find_app("naming_shop.app:app").name == "shop"
    assert find_workflow("naming_shop.app:Order").__qualname__ == "Order"
    assert find_workflow("naming_shop.app:Elsewhere").__qualname__ == "Elsewhere"
    assert find_type("naming_shop.app:Plain.Inner").__qualname__ == "Plain.Inner"

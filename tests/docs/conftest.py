"""Pages define workflows and actions in modules that are gone afterwards: so are these."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS


@pytest.fixture(autouse=True)
def _what_pages_define_is_forgotten() -> Iterator[None]:
    workflows, actions = dict(WORKFLOWS), dict(ACTIONS)
    yield
    for table, before in ((WORKFLOWS, workflows), (ACTIONS, actions)):
        table.clear()
        table.update(before)

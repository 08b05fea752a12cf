"""Tasks of an App of the application, in tests: they run on the App of the test, with its stubs, and reach no database."""

from pathlib import Path

import pytest

from holdfast import App
from holdfast.tasks import RESULT
from holdfast.testing import workflow_app


@pytest.fixture
def shop(tmp_path: Path) -> App:
    return App("shop", url=f"sqlite:///{tmp_path}/shop.db")


async def test_tasks_of_an_app_that_is_not_open_run_on_the_tests_app(shop: App, tmp_path: Path):
    @shop.task
    async def mail(to: str) -> str:
        return f"really to {to}"

    @shop.task
    async def note(text: str) -> str:
        return text.upper()

    async with workflow_app(eager=True, stubs={mail: lambda to: f"as if to {to}"}) as app:
        assert await (await mail.delay("ada")).get() == "as if to ada"
        assert await (await (mail.s("ada") >> note.s(RESULT)).delay()).get() == "AS IF TO ADA"
        assert mail.sender is app
    assert mail.sender is shop
    assert not (tmp_path / "shop.db").exists()


async def test_an_app_that_is_open_keeps_its_tasks(shop: App, tmp_path: Path):
    @shop.task
    async def mail(to: str) -> str:
        return f"really to {to}"

    async with workflow_app(), shop:
        assert await (await mail.delay("ada")).get() == "really to ada"
    assert (tmp_path / "shop.db").exists()

"""Helpers that workflows call through this module."""

from __future__ import annotations

from holdfast import action


@action(name="dotted:twice")
async def twice(n: int) -> int:
    return 2 * n


async def added(n: int) -> int:
    return await twice(n) - n + 1


class Prices:
    @staticmethod
    async def total(n: int) -> int:
        return await twice(10 * n)

    class Inner:
        @staticmethod
        async def total(n: int) -> int:
            return await added(10 * n)

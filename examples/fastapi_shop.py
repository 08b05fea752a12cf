"""A shop on FastAPI: requests send tasks and start workflows, workers run them, and other requests look how they are.

uvicorn examples.fastapi_shop:web
holdfast worker examples.fastapi_shop:app
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from holdfast import App, InstanceNotFound, JobNotFound, JobStatus, TaskFailed, WaitTimeout, Workflow, workflow

app = App("shop")


@app.task(retries=3)
async def send_receipt(order: int) -> str:
    if order <= 0:
        raise ValueError(f"there is no order {order}")
    return f"receipt {order}"


@app.task
def pack(order: int) -> str:
    return f"order {order}, packed"


@workflow
class Order(Workflow):
    async def run(self, order: int) -> list[str]:
        packed = await pack(order)
        return [packed, await send_receipt(order)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    async with app:  # opened with the server, closed with it
        yield


web = FastAPI(lifespan=lifespan)


@web.post("/receipts/{order}", status_code=202)
async def ask_for_receipt(order: int) -> dict[str, str]:
    # Asked for twice, it is one job.
    job = await send_receipt.options(id=f"receipt-{order}", retries=0).delay(order)
    return {"job": job.id}


@web.get("/jobs/{job}")
async def look_at_job(job: str) -> dict[str, str | None]:
    handle = app.job(job)
    try:
        status = await handle.status()
        result = await handle.get() if status is JobStatus.DONE else None
    except JobNotFound as error:
        raise HTTPException(404, str(error)) from error
    return {"status": status, "result": result}


@web.get("/jobs/{job}/result")
async def wait_for_job(job: str, patience: float = 10.0) -> dict[str, str]:
    try:
        return {"result": await app.job(job).get(timeout=patience)}
    except WaitTimeout as error:
        raise HTTPException(504, str(error)) from error
    except TaskFailed as error:
        raise HTTPException(500, f"{error.original_type}: {error.original_args}") from error
    except JobNotFound as error:
        raise HTTPException(404, str(error)) from error


@web.post("/orders/{order}", status_code=202)
async def place_order(order: int) -> dict[str, str]:
    handle = await Order().start(order, id=f"order-{order}")
    return {"id": handle.id}


@web.get("/orders/{id}")
async def look_at_order(id: str, patience: float = 10.0) -> dict[str, list[str]]:
    try:
        return {"done": await app.handle(id, Order).result(timeout=patience)}
    except WaitTimeout as error:
        raise HTTPException(504, str(error)) from error
    except InstanceNotFound as error:
        raise HTTPException(404, str(error)) from error

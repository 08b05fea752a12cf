"""A Django application that sends tasks: real requests, its own transactions, and a worker beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

APPLICATION = """
    import sys

    import django
    from django.conf import settings
    from django.db import connection, transaction
    from django.http import HttpRequest, JsonResponse
    from django.test import Client
    from django.urls import path

    from holdfast import App

    DATABASE = "{database}"
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a test",
        ROOT_URLCONF=__name__,
        DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}}}},
    )
    django.setup()

    app = App("shop", interface="sync", url=f"sqlite:///{{DATABASE}}")

    @app.task
    def send_receipt(order: int) -> str:
        return f"receipt {{order}}"

    def place(request: HttpRequest, order: int) -> JsonResponse:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO shop_order VALUES (%s)", [order])
            job = send_receipt.in_transaction(connection).delay(order)
            if request.GET.get("fail"):
                raise ValueError("out of stock")
        return JsonResponse({{"job": job.id}})

    def receipt(request: HttpRequest, job: str) -> JsonResponse:
        return JsonResponse({{"receipt": app.job(job).get(timeout=30)}})

    urlpatterns = [path("place/<int:order>", place), path("receipt/<str:job>", receipt)]

    with app:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE shop_order (id INTEGER PRIMARY KEY)")
        browser = Client(raise_request_exception=False)
        assert browser.get("/place/1?fail=yes").status_code == 500
        job = browser.get("/place/2").json()["job"]
        direct = send_receipt.delay(3).get(timeout=30)
        print(browser.get(f"/receipt/{{job}}").json()["receipt"], direct)
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM shop_order")
            print(cursor.fetchall())
            cursor.execute("SELECT count(*) FROM holdfast_job")
            print(cursor.fetchall())
"""


def test_requests_of_django_send_tasks_that_commit_with_their_transactions(tmp_path: Path):
    script = tmp_path / "shop.py"
    script.write_text(dedent(APPLICATION).format(database=tmp_path / "shop.db"))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines() == ["receipt 2 receipt 3", "[(2,)]", "[(2,)]"], done.stderr

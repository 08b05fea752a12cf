"""Which browser tests drive: Debian's Chromium, or another one of its kind that is there.

Where there is none, tests that need one are skipped, and the end of the run says so. With HOLDFAST_TEST_BROWSER=required, as in
CI, they fail.
"""

from __future__ import annotations

import os
import shutil

import pytest

NAMED = "HOLDFAST_TEST_CHROMIUM"
REQUIRED = "HOLDFAST_TEST_BROWSER"
MISSING = f"no browser for tests: install Chromium, or name one in {NAMED}"


def found() -> str | None:
    """Where a browser is."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get(NAMED) or next(filter(None, map(shutil.which, names)), None)


def path() -> str:
    """Where a browser is; skips the test that asks where there is none, or fails it where there has to be one."""
    browser = found()
    if browser is None and os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{MISSING}; {REQUIRED}=required")
    if browser is None:
        pytest.skip(MISSING)
    return browser

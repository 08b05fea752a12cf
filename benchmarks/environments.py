"""Environments of the peers: each has its own, with what PyPI has of it."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent.parent / ".bench"


def python_of(name: str, packages: Sequence[str]) -> str:
    """The interpreter of an environment that has these packages, made where it is not there; without any, this one."""
    if not packages:
        return sys.executable
    python = HERE / name / "bin" / "python"
    if not python.exists():
        venv.create(HERE / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)

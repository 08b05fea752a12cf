"""Python source into programs. Reads functions, never runs them; what it cannot keep it refuses, and says how to rewrite it."""

from holdfast.compiler.compile import async_methods, compile_workflow, only_undefined
from holdfast.compiler.objects import LOCAL_OBJECTS

__all__ = ["LOCAL_OBJECTS", "async_methods", "compile_workflow", "only_undefined"]

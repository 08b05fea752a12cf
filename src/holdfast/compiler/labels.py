"""What functions are called in a program: by where they stand, and by number where one place has made several. Reads nothing."""

from __future__ import annotations

from types import FunctionType

from holdfast.compiler.wrapping import module_of, title_of


class Labels:
    """Gives each function of one program a label of its own, the same whenever the program is compiled."""

    def __init__(self) -> None:
        self._labels: dict[FunctionType, str] = {}
        self._count: dict[str, int] = {}

    def of(self, function: FunctionType) -> str:
        """`module:qualname`; a second function from the same place, such as another closure, is `module:qualname~2`."""
        found = self._labels.get(function)
        if found is None:
            found = self._labels[function] = self.another(f"{module_of(function)}:{title_of(function)}")
        return found

    def another(self, place: str) -> str:
        """A new label for what stands at `place`."""
        count = self._count[place] = self._count.get(place, 0) + 1
        return place if count == 1 else f"{place}~{count}"

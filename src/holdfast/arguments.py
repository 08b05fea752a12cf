"""Arguments at the edge: bound as Python binds them, then validated against the annotations. Runs no user code but validators."""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any, ParamSpec, TypeVar

import pydantic
from pydantic import ConfigDict, TypeAdapter

from holdfast.errors import ConfigurationError, ValidationError
from holdfast.inject import Depend
from holdfast.logs import get_logger
from holdfast.model.call import message_key

log = get_logger("holdfast")

_ARBITRARY = ConfigDict(arbitrary_types_allowed=True)

_VARIADIC: Mapping[Any, TypeAdapter[Any]] = {
    inspect.Parameter.VAR_POSITIONAL: TypeAdapter(tuple[Any, ...]),
    inspect.Parameter.VAR_KEYWORD: TypeAdapter(dict[str, Any]),
}


P = ParamSpec("P")
R = TypeVar("R")


def called_as(example: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Arguments that do not fit the function's parameters raise ConfigurationError, with an example of a right call."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise ConfigurationError(f"{function.__name__}(): {error}; write it as {example}") from error
            return function(*args, **kwargs)

        return checked

    return decorate


class Binder:
    """The parameters of a method, without its first one, and what its annotations demand."""

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        self.name = name
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        self._signature = signature.replace(parameters=parameters)
        self._adapters = _adapters(function, parameters, name)
        self._variadic = {p.name: _VARIADIC[p.kind] for p in parameters if p.kind in _VARIADIC}

        kinds = inspect.Parameter
        by_name = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        by_position = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        self.named = frozenset(p.name for p in parameters if p.kind in by_name)
        """The parameters that may be given by their names."""
        self.positional = [p.name for p in parameters if p.kind in by_position]
        """The parameters that may be given by position, in order."""
        self._takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        """Whether arguments may have other names, too."""

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, others: Iterable[str] = ()) -> dict[str, Any]:
        """Arguments by parameter name. Raises TypeError as a call would, ValidationError for values that don't fit.

        `others` are names that may be given beside them, which a misspelled one may have meant.
        """
        if not self._takes_any and not self.named.issuperset(kwargs):
            unknown = next(name for name in kwargs if name not in self.named)
            raise TypeError(f"{self.name} {self._missed(unknown, self.named, others)}")
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        return self._fit(bound.arguments, "be started")

    def fit(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values for some parameters, as their annotations want them. Raises ValidationError for what does not fit."""
        return self._fit(values, "go on")

    def _fit(self, values: Mapping[str, Any], to: str) -> dict[str, Any]:
        fitting = dict(values)
        problems: list[str] = []
        for name in [name for name in self._adapters if name in values]:
            try:
                fitting[name] = self._validated(name, self._adapters[name], values[name])
            except pydantic.ValidationError as error:
                problems += _problems(error, name)
        if problems:
            raise ValidationError(f"{self.name} cannot {to} with these arguments:\n  " + "\n  ".join(problems))
        return fitting

    def _missed(self, name: str, known: Iterable[str], others: Iterable[str]) -> str:
        """What to say of an argument that was given by a name that there is not."""
        if name in self._signature.parameters:
            return f"takes its argument {name!r} by position only"
        named = sorted(known)
        near = difflib.get_close_matches(name, [*named, *others], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(map(repr, named)) or 'none'}"
        return f"has no argument {name!r}; {hint}"

    def _validated(self, name: str, adapter: TypeAdapter[Any], value: Any) -> Any:
        if name not in self._variadic:
            return adapter.validate_python(value)
        value = self._variadic[name].validate_python(value)
        if isinstance(value, tuple):
            return tuple(adapter.validate_python(one) for one in typing.cast("tuple[Any, ...]", value))
        return {key: adapter.validate_python(one) for key, one in value.items()}


class Fitter:
    """What the annotations of a task demand of its arguments, which are given in any way that its check lets through."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature, *, name: str, but: Set[str]) -> None:
        kinds = inspect.Parameter
        own = [parameter for parameter in signature.parameters.values() if parameter.name not in but]
        self._name = name
        self._validators = {
            parameter: adapter.validator.validate_python
            for parameter, adapter in _adapters(function, own, name).items()
        }
        by_position = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        before = itertools.takewhile(lambda each: each.name not in but, signature.parameters.values())
        self._positions = [each.name for each in before if each.kind in by_position]
        self._declared = {each.name for each in own if each.kind not in _VARIADIC}
        others = {each.kind: each.name for each in own if each.kind in _VARIADIC}
        self._more, self._named = others.get(kinds.VAR_POSITIONAL, ""), others.get(kinds.VAR_KEYWORD, "")
        """The parameters that take what has none of its own, by position and by name."""

    def fit(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, leave: type[Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the annotations want them, but for those of the class `leave`. Raises ValidationError."""
        if not self._validators:
            return args, kwargs
        problems: list[str] = []
        fitting: list[Any] = []
        for at, value in enumerate(args):
            name = self._positions[at] if at < len(self._positions) else self._more
            fitting.append(self._fit(name, name, value, leave, problems))
        named: dict[str, Any] = {}
        for name, value in kwargs.items():
            parameter = name if name in self._declared else self._named
            named[name] = self._fit(parameter, name, value, leave, problems)
        if problems:
            told = "\n  ".join(problems)
            raise ValidationError(f"{self._name} cannot be sent with these arguments:\n  {told}")
        return tuple(fitting), named

    def _fit(self, parameter: str, name: str, value: Any, leave: type[Any], problems: list[str]) -> Any:
        validate = self._validators.get(parameter)
        if validate is None or isinstance(value, leave):
            return value
        try:
            fitted = validate(value)
        except pydantic.ValidationError as error:
            problems += _problems(error, name)
            return value
        # Of what is only to be iterated over, pydantic makes an iterator that validates as it goes, and cannot be sent.
        return fitted if fitted is value or not isinstance(fitted, Iterator) else value


def fitted(cls: type[Any], text: str, *, name: str) -> Any:
    """The object of a class that a JSON text describes. Raises ValidationError."""
    adapter = _adapter_of(cls, name)
    if adapter is None:
        raise ValidationError(f"{name} cannot be made from JSON; make it in Python")
    return _validated(adapter.validate_json, text, f"{name} cannot be made from this JSON")


def fitted_message(name: str, value: Any) -> Any:
    """The value of a message, made an object of the type that its name names, if that is known here. Raises ValidationError.

    Imports nothing: of a type that this process has not imported, the value is sent as it is.
    """
    cls = _imported(name)
    if cls is None:
        return value
    try:
        if isinstance(value, cls):
            return value
    except TypeError:
        # A TypedDict, or a Protocol, which have no objects of their own.
        return value
    adapter = _adapter_of(cls, name)
    if adapter is None:
        raise ValidationError(f"the message {name!r} is an object of that type, not {_short(value)}")
    return _validated(adapter.validate_python, value, f"the message {name!r} does not fit its type")


def _validated(validate: Callable[[Any], Any], value: object, otherwise: str) -> Any:
    """The value as `validate` gives it; else a ValidationError that says `otherwise`, and lists what is wrong."""
    try:
        return validate(value)
    except pydantic.ValidationError as error:
        raise ValidationError(f"{otherwise}:\n  " + "\n  ".join(_problems(error))) from error


def _adapter_of(cls: type[Any], name: str) -> TypeAdapter[Any] | None:
    try:
        return _adapter(cls)
    except NameError as error:
        raise ValidationError(f"{name} cannot be validated: {error}; make it in Python") from error


def _imported(name: str) -> type[Any] | None:
    """The class whose `module:qualname` this is, if it is one of a module that is imported here."""
    module, colon, qualname = name.partition(":")
    found: Any = sys.modules.get(module) if colon else None
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and message_key(found) == name else None


def _problems(error: pydantic.ValidationError, name: str = "") -> list[str]:
    """What does not fit, and where, a line each."""
    found: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        where = "".join(f"[{part!r}]" for part in item["loc"])
        place = f"{name}{where}: " if name or where else ""
        found.append(f"{place}{item['msg']} (got {_short(item['input'])})")
    return found


def _adapters(
    function: Callable[..., Any], parameters: list[inspect.Parameter], of: str
) -> dict[str, TypeAdapter[Any]]:
    """A validator for each parameter whose annotation pydantic understands; the others are taken as they come.

    An annotation that means nothing here is warned of.
    """
    hints = _hints(function)
    found: dict[str, TypeAdapter[Any]] = {}
    for parameter in parameters:
        hint = hints.get(parameter.name, parameter.annotation)
        if hint is inspect.Parameter.empty or hint is Any or isinstance(parameter.default, Depend):
            continue
        try:
            adapter = _adapter(hint)
        except NameError:
            text: Any = parameter.annotation
            log.warning(
                "annotation not resolved",
                of=of,
                parameter=parameter.name,
                annotation=text if isinstance(text, str) else inspect.formatannotation(text),
                hint="its argument is not validated; let all its names be known when the module has been imported",
            )
            continue
        if adapter is not None:
            found[parameter.name] = adapter
    return found


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """A validator; None for a type that pydantic does not understand. Raises NameError where a name in it is not known."""
    if isinstance(hint, str):
        raise NameError(f"{hint!r} is not known here")
    try:
        return _complete(TypeAdapter(hint))
    except pydantic.errors.PydanticUserError:
        pass
    try:
        return _complete(TypeAdapter(hint, config=_ARBITRARY))
    except pydantic.errors.PydanticUserError:
        return None


def _complete(adapter: TypeAdapter[Any]) -> TypeAdapter[Any]:
    # Older releases of pydantic raise NameError by themselves.
    if not getattr(adapter, "pydantic_complete", True):
        adapter.rebuild()
    return adapter


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # A name that only the type checker knows, say; the other annotations still count.
        raw: dict[str, Any] = getattr(function, "__annotations__", {})
        return {name: _hint(function, hint) for name, hint in raw.items()}


def _hint(function: Callable[..., Any], raw: Any) -> Any:
    """What an annotation means; itself, a text, where that is not known."""

    def alone() -> None: ...

    alone.__annotations__ = {"it": raw}
    try:
        return typing.get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)["it"]
    except (NameError, TypeError, AttributeError):
        return raw


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"

"""Classes that got new fields since their instances were stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from holdfast.codec import decode, encode


class Model(BaseModel):
    a: int
    b: str = "new"
    c: list[int] = Field(default_factory=list)
    d: list[int] = [1]


@dataclass
class Data:
    a: int
    b: str = "new"
    c: list[int] = field(default_factory=list)


def test_new_fields_of_a_model_take_their_defaults() -> None:
    tree = encode(Model(a=1))
    for name in "bcd":
        del tree["f"][name]
    tree["set"] = ["a"]
    back = decode(tree)
    assert back == Model(a=1)
    assert back.d is not Model.model_fields["d"].default


def test_new_fields_of_a_dataclass_take_their_defaults() -> None:
    tree = encode(Data(1))
    for name in "bc":
        del tree["f"][name]
    assert decode(tree) == Data(1)

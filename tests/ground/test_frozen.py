"""``frozen`` makes what ``dataclass(frozen=True, slots=True)`` makes, for every class of the package."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import pytest

from lora_packer.frozen import frozen

TWINS = Path(__file__).parent.parent / "support" / "frozen_twins.py"


def _given() -> list[Any]:
    """The same three classes twice: by ours, and by the standard decorator."""
    made = []
    for decorator in (frozen, dataclass(frozen=True, slots=True)):

        class Plain:
            """With every kind of field."""

            kind: ClassVar[str] = "kind"
            name: str
            size: int = 3
            parts: list[int] = field(default_factory=list)
            secret: str = field(default="s", repr=False)
            note: str = field(default="", compare=False)
            counted: int = field(init=False, default=7)
            seen: dict[str, int] = field(default_factory=dict, init=False, compare=False)

        class Judged:
            """With a check, a property, and a repr of its own."""

            size: int

            def __post_init__(self) -> None:
                if self.size < 0:
                    raise ValueError("less than nothing")

            @property
            def twice(self) -> int:
                return 2 * self.size

            def __repr__(self) -> str:
                return "its own"

        class Empty:
            """Without a field."""

        made.append([decorator(one) for one in (Plain, Judged, Empty)])  # type: ignore[arg-type]
    return made


OURS, STANDARD = _given()
CALLS: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = [
    (0, ("a",), {}),
    (0, ("a", 4, [1], "t", "n"), {}),
    (0, (), {"name": "b", "parts": [2]}),
    (0, ("a",), {"counted": 1}),
    (0, (), {}),
    (0, ("a", 1, [], "", "", 5), {}),
    (1, (3,), {}),
    (1, (-1,), {}),
    (2, (), {}),
]


def _outcome(of: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        made = of(*arguments, **named)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return repr(made), asdict(made), made == of(*arguments, **named), made == copy.deepcopy(made), made != 3


@pytest.mark.parametrize(("which", "arguments", "named"), CALLS)
def test_it_is_made_shown_and_compared_alike(which: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    ours = _outcome(OURS[which], arguments, named)
    assert ours == _outcome(STANDARD[which], arguments, named)


def test_each_instance_has_its_own_list() -> None:
    first, second = OURS[0]("a"), OURS[0]("a")
    assert first.parts is not second.parts
    assert first.seen is not second.seen


def test_what_is_not_compared_counts_neither_for_equality_nor_for_the_hash() -> None:
    @frozen
    class Pair:
        size: int
        note: str = field(default="", compare=False)

    assert Pair(1, "a") == Pair(1, "b")
    assert hash(Pair(1, "a")) == hash(Pair(1, "b"))
    assert len({Pair(1), Pair(2), Pair(1)}) == 2
    assert Pair(1) != OURS[1](1)


def test_a_class_with_its_own_equality_keeps_it_and_can_be_hashed() -> None:
    @frozen
    class Loose:
        size: int

        def __eq__(self, other: object) -> bool:
            return True

    assert Loose(1) == Loose(2)
    assert hash(Loose(1)) == hash(Loose(1))


ACTS = [lambda one: setattr(one, "size", 1), lambda one: delattr(one, "size")]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_nothing_can_be_set_or_deleted(which: int, act: Any) -> None:
    for classes in (OURS, STANDARD):
        with pytest.raises((FrozenInstanceError, TypeError)):  # TypeError: the standard one's, for what is no field
            act(classes[which](*(["a"], [3], [])[which]))


@pytest.mark.parametrize("act", ACTS)
def test_the_error_names_the_field(act: Any) -> None:
    with pytest.raises(FrozenInstanceError, match=r"cannot (assign to|delete) field 'size'"):
        act(OURS[1](3))


def test_dataclasses_and_match_know_it() -> None:
    one = OURS[0]("a", 4)
    assert is_dataclass(one)
    assert replace(one, size=5).size == 5
    assert not hasattr(one, "__dict__")
    assert repr(OURS[0].__dataclass_params__) == repr(STANDARD[0].__dataclass_params__)
    assert OURS[0].__match_args__ == STANDARD[0].__match_args__
    assert [*inspect.signature(OURS[0]).parameters] == [*inspect.signature(STANDARD[0]).parameters]
    match Kept("a", (1,)):
        case Kept(name, (only,)):
            assert (name, only) == ("a", 1)
        case _:
            raise AssertionError


@frozen
class Kept:
    """Pickle finds it by its name."""

    name: str
    parts: tuple[int, ...] = ()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_and_copied(protocol: int) -> None:
    one = Kept("a", (1, 2))
    assert pickle.loads(pickle.dumps(one, protocol)) == one == copy.copy(one)


def test_one_that_holds_itself_is_shown() -> None:
    one = OURS[0]("a", parts=[])
    one.parts.append(one)
    assert "..." in repr(one)


def test_a_class_below_another_one_has_the_fields_of_both() -> None:
    @frozen
    class Above:
        name: str

    @frozen
    class Below(Above):
        size: int = 1

    assert repr(Below("a")).endswith("Below(name='a', size=1)")
    with pytest.raises(FrozenInstanceError):
        Below("a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    "given",
    [
        {"__annotations__": {"size": "int"}, "size": field(kw_only=True)},
        {"__annotations__": {"size": "int"}, "size": field(hash=False)},
        {"__annotations__": {"size": "InitVar[int]"}},
    ],
)
def test_what_it_does_not_know_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"Odd\.size is no plain field"):
        frozen(type("Odd", (), {"__module__": __name__, **given}))


def test_the_hints_of_init_are_found() -> None:
    assert get_type_hints(Kept.__init__) == {"name": str, "parts": tuple[int, ...], "return": type(None)}


def test_every_class_of_the_package_is_as_the_standard_decorator_makes_it() -> None:
    ended = subprocess.run(
        [sys.executable, str(TWINS)], capture_output=True, text=True, check=False, timeout=100, cwd=TWINS.parent
    )
    count, *different = ended.stdout.splitlines()
    assert (different, ended.stderr) == ([], "")
    assert int(count) > 200

"""The catalogue of errors: codes, exit codes, and the way through a process boundary."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import ProcessPoolExecutor

import pytest

from caloray import errors
from caloray.errors import CaloRayError, catalogue

# Families of codes and the exit status of each (sysexits.h where it has one).
EXIT_CODES = {"1": {78}, "2": {65}, "3": {66}, "4": {70}, "5": {74}, "6": {69, 77}, "7": {75}}
CLASSES = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CaloRayError)
]


def fail() -> None:
    raise errors.NumericalError("loss is nan", hint="lower the rate", epoch=3, rows=[1, 2])


def test_every_class_is_public_and_in_the_catalogue():
    assert {kind.__name__ for kind in CLASSES} == {name for name in errors.__all__ if name != "catalogue"}
    listed = {name for _, name, _, _ in catalogue()}
    assert {kind.__name__ for kind in CLASSES} - {"CaloRayError"} <= listed


def test_codes_are_unique_and_well_formed():
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes) > 10
    assert all(re.fullmatch(r"CR-[0-7]\d\d", code) for code in codes)
    assert [row[0] for row in catalogue()] == sorted(row[0] for row in catalogue())


@pytest.mark.parametrize("kind", [k for k in CLASSES if k is not CaloRayError], ids=lambda k: k.__name__)
def test_exit_codes_follow_the_family(kind):
    assert kind.exit_code in EXIT_CODES[kind.code[3]]
    assert kind.__doc__
    row = next(row for row in catalogue() if row[1] == kind.__name__)
    assert row == (kind.code, kind.__name__, kind.exit_code, kind.__doc__.strip().split("\n")[0])


def test_exit_codes_of_the_catalogue():
    found = {name: status for _, name, status, _ in catalogue() if hasattr(errors, name)}
    assert found == {
        "ConfigError": 78,
        "DataError": 65,
        "GeometryError": 65,
        "IntegrityError": 66,
        "CheckpointError": 66,
        "BundleError": 66,
        "NumericalError": 70,
        "StorageError": 74,
        "ClusterError": 69,
        "AuthError": 77,
        "InterruptedRunError": 75,
        "ServiceError": 75,
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_hint_and_context_survive_pickling(kind):
    before = kind("what, where", hint="do this", file="a.hdf5", row=3)
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is kind
    assert (str(after), after.message, after.hint, after.context) == (
        "what, where",
        "what, where",
        "do this",
        {"file": "a.hdf5", "row": 3},
    )


def test_errors_come_back_whole_from_another_process():
    with ProcessPoolExecutor(1) as pool, pytest.raises(errors.NumericalError, match="loss is nan") as caught:
        pool.submit(fail).result()
    assert caught.value.hint == "lower the rate"
    assert caught.value.context == {"epoch": 3, "rows": [1, 2]}


def test_hints_are_optional():
    assert errors.DataError("x").hint == ""
    assert errors.DataError("x").context == {}

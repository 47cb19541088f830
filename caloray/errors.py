"""Every exception that caloray raises on purpose, with its code and exit status.

An error says what is wrong, where (file, dataset, row, component), what was expected against what was
found, and what to do. The command line prints ``error[CODE] message`` and ``hint: ...`` and leaves with
``exit_code``; nothing else in the package decides on exit codes.
"""

from __future__ import annotations

__all__ = [
    "AuthError",
    "BundleError",
    "CaloRayError",
    "CheckpointError",
    "ClusterError",
    "ConfigError",
    "DataError",
    "GeometryError",
    "IntegrityError",
    "InterruptedRunError",
    "NumericalError",
    "ServiceError",
    "StorageError",
    "catalogue",
]


class CaloRayError(Exception):
    """Base of all deliberate errors.

    Args:
        message: One line: what, where, expected against found.
        hint: One line: what to do about it (may be empty).
        context: Machine-readable details, printed by ``--json-errors``.
    """

    code = "CR-000"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __reduce__(self) -> tuple[object, ...]:
        """Keep hint and context when the error crosses a process boundary."""
        return _rebuild, (type(self), self.message, self.hint, self.context)


def _rebuild(kind: type[CaloRayError], message: str, hint: str, context: dict[str, object]) -> CaloRayError:
    return kind(message, hint=hint, **context)


class ConfigError(CaloRayError):
    """A run config, option or field that cannot be carried out."""

    code = "CR-100"
    exit_code = 78


class DataError(CaloRayError):
    """Input data that is damaged, of the wrong shape or physically impossible."""

    code = "CR-200"
    exit_code = 65


class GeometryError(DataError):
    """A geometry that does not exist, is malformed or does not fit the data."""

    code = "CR-210"


class IntegrityError(CaloRayError):
    """A file whose hash or manifest does not agree with what was recorded."""

    code = "CR-300"
    exit_code = 66


class CheckpointError(IntegrityError):
    """No checkpoint that can be trusted, or one that belongs to another config."""

    code = "CR-310"


class BundleError(IntegrityError):
    """A bundle that is incomplete, altered, unsafe or of a newer format."""

    code = "CR-320"


class NumericalError(CaloRayError):
    """NaN or infinity where a number was needed, or draws that were never valid."""

    code = "CR-400"
    exit_code = 70


class StorageError(CaloRayError):
    """The disk is full, read-only or holds another request's output."""

    code = "CR-500"
    exit_code = 74


class ClusterError(CaloRayError):
    """Ray cannot be reached, cannot place the work, or lost it for good."""

    code = "CR-600"
    exit_code = 69


class AuthError(CaloRayError):
    """A cluster or service without the authentication it needs."""

    code = "CR-610"
    exit_code = 77


class InterruptedRunError(CaloRayError):
    """Stopped by a signal; the same command continues where this one ended."""

    code = "CR-700"
    exit_code = 75


class ServiceError(CaloRayError):
    """A shower service that is down, busy or broke off; the same request may be sent again."""

    code = "CR-710"
    exit_code = 75


def catalogue() -> list[tuple[str, str, int, str]]:
    """All errors as (code, class name, exit code, first docstring line), sorted by code."""

    def walk(kind: type[CaloRayError]) -> list[type[CaloRayError]]:
        ours = [sub for sub in kind.__subclasses__() if sub.__module__ == __name__]  # Ray derives its own
        return [kind] + [leaf for sub in ours for leaf in walk(sub)]

    rows = [
        (kind.code, kind.__name__, kind.exit_code, (kind.__doc__ or "").strip().split("\n")[0])
        for kind in walk(CaloRayError)
        if kind is not CaloRayError
    ]
    return sorted(rows)

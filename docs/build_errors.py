"""Write docs/errors.md from the exceptions in caloray.errors: ``python docs/build_errors.py``."""

from __future__ import annotations

from pathlib import Path

from caloray.errors import catalogue

PAGE = Path(__file__).parent / "errors.md"
HEAD = """\
# Errors and exit statuses

<!-- made by docs/build_errors.py from caloray/errors.py; do not edit -->

A command that fails prints one line, `error[CODE] what, where, expected against found`, and one line that
starts with `hint:`. `--debug` adds the traceback, `--json-errors` prints a JSON object instead (`code`,
`message`, `hint`, `exit_code`, `context`) for schedulers.

| code | exception | exit status | meaning |
|---|---|---|---|
"""
TAIL = """
Other exit statuses: 0 done, 2 wrong usage of the command line, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
After 75, 130 and 143 the same command continues where the last one ended.
"""


def page() -> str:
    """The page's text."""
    rows = [f"| {code} | `{name}` | {status} | {text} |\n" for code, name, status, text in catalogue()]
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    PAGE.write_text(page())

"""A bundle with other post-processing: the same weights, another digest, a golden sample of its own."""

from __future__ import annotations

__all__ = ["with_postprocess"]

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloray.atomic import staging_directory
from caloray.bundle import Bundle, make_golden
from caloray.bundle_file import write_bundle_file
from caloray.errors import StorageError
from caloray.postprocess.steps import PostProcessing

RECORD = "postprocess"


def with_postprocess(
    path: Path, output: Path, steps: PostProcessing, record: Mapping[str, Any] | None = None
) -> Bundle:
    """Write a copy of a bundle whose showers pass ``steps``, complete or not at all.

    Args:
        path: The bundle; steps that it carries already are replaced.
        output: Where the new one goes; nothing may be there.
        steps: What its showers pass, in order; none for a bundle without post-processing.
        record: What is known of the steps, for the new bundle's ``info``.

    Raises:
        StorageError: Something is at ``output``, or it cannot be written.
        BundleError: The bundle is damaged.
    """
    if output.exists():
        raise StorageError(f"{output}: exists already", hint="choose another -o; the old bundle is kept")
    bundle = Bundle.load(path)
    info = {key: value for key, value in bundle.info.items() if key != RECORD}
    info |= {RECORD: dict(record)} if record else {}
    with staging_directory(output) as temporary:
        for entry in bundle.file.components.values():
            (temporary / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / entry.path, temporary / entry.path)
        changes = {"postprocess": steps, "golden": None, "quality": None, "info": info}
        file = bundle.file.model_copy(update=changes)
        write_bundle_file(temporary, file)
        write_bundle_file(temporary, file.model_copy(update={"golden": make_golden(temporary)}))
    return Bundle.load(output)

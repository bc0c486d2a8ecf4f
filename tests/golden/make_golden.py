"""Makes the golden vaults: small ones of every kind, which every later version must read and decode to the same.

::

    PYTHONPATH=.src python -m tests.golden.make_golden NAME

makes the folder `tests/golden/NAME` and, beside it, `NAME.json` with what is in it: made from what went in, not by
reading the vault. Golden vaults are made once and never again; a new kind or version is a new row of `MAKERS`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from tests.golden.content import FOLDER, Content, digest
from tests.golden.dicm_vaults import make_dicm, make_dicm_video
from tests.golden.face_facts import make_face_facts
from tests.golden.faces_vaults import make_dicm_hsc, make_thinned_faces
from tests.golden.hsc_vaults import make_hsc
from tests.golden.motion_vaults import make_background, make_background_faces, make_motion, make_motion_faces
from tests.golden.raw_vaults import make_edges, make_facts, make_raw
from tests.golden.thin_vaults import make_thinned

MAKERS: dict[str, Callable[[Store, Content], None]] = {
    "v1-raw": make_raw,
    "v1-edges": make_edges,
    "v1-dicm": make_dicm,
    "v1-dicm-video": make_dicm_video,
    "v1-facts": make_facts,
    "v1-thinned": make_thinned,
    "v1-hsc": make_hsc,
    "v1-dicm-hsc": make_dicm_hsc,
    "v1-face-facts": make_face_facts,
    "v1-thinned-faces": make_thinned_faces,
    "v1-motion": make_motion,
    "v1-motion-faces": make_motion_faces,
    "v1-background": make_background,
    "v1-background-faces": make_background_faces,
}
"""Every golden vault, by its folder's name."""


def make(name: str) -> None:
    """Make a golden vault, which must not be there yet."""
    folder = FOLDER / name
    if folder.exists():
        raise FileExistsError(f"{folder} is golden: it is never made again")
    content = Content()
    MAKERS[name](open_vault(str(folder), create=True), content)
    (folder / ".tmp").rmdir()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    content.files = {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in paths}
    plain: dict[str, Any] = {each.name: getattr(content, each.name) for each in fields(content)}
    (FOLDER / f"{name}.json").write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        make(each)

"""Whoever runs the workers, the vault is the same to the byte."""

from pathlib import Path

import pytest

from framevault.pipeline.jobs.demo import find_clip
from tests.pipeline.command_line import query_rows, run_command, vault_contents

SETTINGS = {
    "raw": "codec: raw\nfps: 1\nsegment_frames: 2\n",
    "dicm": "codec: dicm\nquality: 3\nfps: 0.5\nsegment_frames: 2\n",
}
"""Job files that take a few frames of a real clip of ten seconds, in segments enough for two workers."""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("codec", SETTINGS)
def test_local_and_ray_make_the_same_vault(ray_cluster: None, tmp_path: Path, codec: str) -> None:
    (tmp_path / "job.yaml").write_text(SETTINGS[codec])
    (tmp_path / "letter.mp4").write_text("Dear archive,\n" * 50)
    vault = tmp_path / "vault"
    # The cluster's GPUs exist in its books only.
    settings = ("--config", tmp_path / "job.yaml", "--device", "cpu", "--workers", "2")
    contents = {}

    for executor in ("local", "ray"):
        # Under one name, since failures tell the vault's.
        ended = run_command("compress", find_clip(), tmp_path / "letter.mp4", vault, *settings, "--executor", executor)
        assert ended.code == 3, ended.stderr
        found = run_command("detect", vault, "--device", "cpu", "--workers", "2", "--executor", executor)
        assert found.code == 0, found.stderr
        contents[executor] = (vault_contents(vault), found.stdout)
        (rows,) = query_rows(vault, "select num_segments, num_frames from videos")
        assert run_command("verify", vault).code == 0
        vault.rename(tmp_path / executor)

    assert rows == {"raw": {"num_segments": 5, "num_frames": 10}, "dicm": {"num_segments": 5, "num_frames": 5}}[codec]
    assert contents["ray"] == contents["local"]

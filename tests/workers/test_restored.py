"""What is asked of restoring is checked before anything is loaded."""

from pathlib import Path

import pytest

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CodecSpec
from framevault.workers.restored import check_depth


def hsc_spec(folder: Path, config: dict[str, object]) -> CodecSpec:
    """Return the spec of a checkpoint that has nothing but a configuration."""
    path = folder / "hsc.safetensors"
    save_checkpoint(path, {}, codec="hsc", config=config)
    return CodecSpec(name="hsc", weights=str(path))


def test_more_slices_than_there_are_can_not_be_used(tmp_path: Path) -> None:
    spec = hsc_spec(tmp_path, {"slices": [1, 2]})

    check_depth(spec, 2)

    with pytest.raises(CodecError, match="slices must be nothing, core, or 0 to 2"):
        check_depth(spec, 3)


@pytest.mark.parametrize("config", [{"slices": [1] * 1000}, {"slices": 3}, {"zebra": 1}])
def test_a_configuration_that_is_none_is_named(tmp_path: Path, config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"hsc\.safetensors does not fit the hsc codec: .*(slices|zebra)"):
        check_depth(hsc_spec(tmp_path, config), 1)

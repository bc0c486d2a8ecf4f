"""The table of known files against torchvision's own."""

import pytest

from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES, categories, download_url, known_file
from framevault.codecs.errors import CheckpointError

OF_TORCHVISION = sorted(name for name, file in KNOWN_FILES.items() if file.torchvision_enum is not None)


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_the_file_is_the_one_at_torchvisions_address(name: str) -> None:
    file = known_file(name)

    url = download_url(file)

    assert url is not None
    assert url.rpartition("/")[2] == file.file_name
    assert file.sha256_prefix is not None
    assert f"-{file.sha256_prefix}.pth" in url
    assert len(bytes.fromhex(file.sha256_prefix)) == 4


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_class_names_are_imagenets_or_cocos(name: str) -> None:
    file = known_file(name)

    names = categories(file)

    if file.task == "classification":
        assert (len(names), names[0], names[281]) == (1000, "tench", "tabby")
    else:
        assert (len(names), names[0], names[1]) == (91, "__background__", "person")


def test_only_torchvisions_first_detectors_have_no_epsilon() -> None:
    without = {name for name, file in KNOWN_FILES.items() if file.norm_epsilon == 0}

    assert without == {"fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"must be one of fasterrcnn_resnet50_fpn, .*, got 'vgg16'"):
        known_file("vgg16")


def test_mocos_file_has_no_address_and_no_classes() -> None:
    file = known_file("moco_v2")

    assert download_url(file) is None
    assert categories(file) == ()

"""What a checkpoint says of its networks."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from framevault.codecs.checkpoint_header import read_config
from framevault.codecs.dicm.backbones.registry import BACKBONES
from framevault.codecs.dicm.config import BackboneName, DicmConfig
from framevault.codecs.dicm.networks import LATENT_STRIDE, DicmNetworks
from framevault.codecs.spec import CodecSpec
from tests.codecs.dicm.toy import TOY_CONFIG

BACKBONE_NAMES: tuple[BackboneName, ...] = get_args(BackboneName)


def test_every_backbone_of_the_table_has_a_name_and_usual_widths() -> None:
    assert set(BACKBONE_NAMES) == set(BACKBONES)
    for backbone in BACKBONE_NAMES:
        assert DicmConfig.usual(backbone, blocks="hornet").backbone == backbone


def test_a_configuration_survives_being_stored() -> None:
    for backbone in BACKBONE_NAMES:
        config = DicmConfig.usual(backbone, blocks="hornet")

        assert DicmConfig.from_json(asdict(config)) == config


def test_a_checkpoint_that_does_not_say_is_of_mobilenet_v2_and_gated_blocks() -> None:
    stored = asdict(TOY_CONFIG)
    del stored["backbone"], stored["blocks"]

    config = DicmConfig.from_json(stored)

    assert (config.backbone, config.blocks) == ("mobilenet_v2", "gated")


def test_the_shipped_checkpoint_has_the_usual_widths() -> None:
    stored = DicmConfig.from_json(read_config(CodecSpec(name="dicm").checkpoint_path or Path(), codec="dicm"))

    usual = DicmConfig.usual("mobilenet_v2", blocks=stored.blocks)

    assert replace(stored, temporal=0, motion=0, skip_below=usual.skip_below) == usual


@pytest.mark.parametrize(("temporal", "motion"), [(6, 21), (0, 3), (6, -1)])
def test_what_can_not_be_carried_is_refused(temporal: int, motion: int) -> None:
    with pytest.raises(ValueError, match=f"motion must be .*, got {motion}"):
        replace(TOY_CONFIG, temporal=temporal, motion=motion)


def test_an_unknown_backbone_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="backbone must be one of mobilenet_v2, resnet50, got 'vgg16'"):
        DicmConfig.from_json({**asdict(TOY_CONFIG), "backbone": "vgg16"})


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_the_networks_carry_the_features_of_their_backbone(backbone: BackboneName) -> None:
    networks, row = DicmNetworks(replace(TOY_CONFIG, backbone=backbone)), BACKBONES[backbone]
    quality_n = torch.zeros(1, dtype=torch.long)

    with torch.inference_mode():
        features_nchw = networks.head(torch.zeros(1, 3, 64, 96))
        latent_nchw = networks.analyse(features_nchw, quality_n)
        decoded_nchw = networks.synthesise(latent_nchw, quality_n)

    assert features_nchw.shape == (1, row.head_channels, 64 // row.head_stride, 96 // row.head_stride)
    assert latent_nchw.shape == (1, TOY_CONFIG.latent, 64 // LATENT_STRIDE, 96 // LATENT_STRIDE)
    assert decoded_nchw.shape == features_nchw.shape
    assert networks.feature_mean.shape == (row.head_channels,)

"""What a checkpoint says of its sizes."""

import dataclasses
import json

import pytest

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.domains import DOMAINS


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_is_read_back_from_json(domain: str) -> None:
    text = json.dumps(dataclasses.asdict(DOMAINS[domain]))

    assert HscConfig.from_json(json.loads(text)) == DOMAINS[domain]


def test_sizes_that_a_checkpoint_does_not_name_are_the_defaults() -> None:
    assert HscConfig.from_json({}) == HscConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": [4, 4]}, "channels must have one entry a resolution"),
        ({"split": 12}, "split must be a power of two"),
        ({"slices": []}, "the number of slices must be 1 to 128, got 0"),
        ({"slices": [3, 0]}, "slices must be positive"),
        ({"depths": [1, 1]}, "body and depths must have as many entries"),
        ({"depths": [1, 0, 2, 2, 2]}, "none below 1"),
        ({"shrink": 2}, "resolution over shrink must be 8 or 16 times the split, 128 or 256, got 128 over 2"),
        ({"shrink": 0}, "resolution over shrink"),
        ({"style_codec": "convolutions"}, "style must be 512"),
        ({"style_codec": "convolutions", "style": 512, "core": 50}, "core a multiple of 4"),
        ({"style_codec": "sparse"}, "style_codec must be one of dense, convolutions, got 'sparse'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HscConfig.from_json(values)


@pytest.mark.parametrize(
    "values", [{"core": "48"}, {"core": True}, {"body": 3}, {"depths": [1.0, 2, 2, 2, 2]}, {"depth": 3}]
)
def test_values_of_another_type_and_unknown_names_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        HscConfig.from_json(values)

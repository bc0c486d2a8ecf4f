"""Random vectors to styles."""

import torch

from framevault.codecs.hsc.mapping import MappingNetwork


def make_mapping() -> MappingNetwork:
    torch.manual_seed(1)
    return MappingNetwork(width=16, style=24, depth=3)


def random_vectors(count: int) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(2))


def test_the_length_of_a_random_vector_does_not_matter() -> None:
    mapping, z_nz = make_mapping(), random_vectors(3)

    with torch.inference_mode():
        torch.testing.assert_close(mapping(7 * z_nz), mapping(z_nz), atol=1e-5, rtol=1e-4)


def test_styles_have_unit_variance_at_the_start() -> None:
    with torch.inference_mode():
        w_nd = make_mapping()(random_vectors(4000))

    assert 0.5 < float(w_nd.square().mean()) < 2


def test_truncation_goes_from_the_mean_to_the_style_itself() -> None:
    mapping, z_nz = make_mapping(), random_vectors(2)
    mapping.measure_mean()

    with torch.inference_mode():
        w_nd = mapping(z_nz)
        whole, half, none = (mapping.styles(z_nz, num_styles=5, truncation=factor) for factor in (1.0, 0.5, 0.0))

    assert whole.shape == (2, 5, 24)
    torch.testing.assert_close(whole, w_nd[:, None].expand(-1, 5, -1))
    torch.testing.assert_close(half[:, 3], (w_nd + mapping.mean) / 2)
    torch.testing.assert_close(none[1, 4], mapping.mean)


def test_the_mean_is_that_of_many_styles_and_the_same_each_time() -> None:
    mapping = make_mapping()
    mapping.measure_mean()
    first_d = mapping.mean.clone()
    mapping.measure_mean()

    with torch.inference_mode():
        expected_d = mapping(random_vectors(20_000)).mean(dim=0)
    assert torch.equal(mapping.mean, first_d)
    torch.testing.assert_close(first_d, expected_d, atol=0.05, rtol=0)

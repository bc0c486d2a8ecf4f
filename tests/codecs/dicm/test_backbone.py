"""Our folded MobileNetV2 against torchvision's."""

import torch
from torchvision.models import mobilenet_v2

from framevault.codecs.dicm.backbone import load_head, load_tail


def test_head_and_tail_give_torchvisions_own_outputs() -> None:
    """Random weights and statistics; folding changes the last decimals only."""
    torch.manual_seed(0)
    reference = mobilenet_v2().eval()
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]  # set where statistics are tracked
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]  # set where statistics are tracked
    state = reference.state_dict()
    rgb = torch.randn(2, 3, 96, 64)

    with torch.no_grad():
        features = load_head(state)(rgb)
        stages, logits = load_tail(state)(features)

        # Float32 sums of up to 1,000 terms, in another order: 1e-4 relative.
        torch.testing.assert_close(features, reference.features[:4](rgb), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(stages[1], reference.features[:14](rgb), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, reference(rgb), rtol=1e-4, atol=1e-4)

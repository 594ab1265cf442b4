import torch

from training.pruning import draw_survivors
from training.recipe import PruningSettings

HALF = PruningSettings(completions=0.5, groups=0.5)


def test_the_expected_gradient_is_the_whole_batchs():
    """A small policy's GRPO gradient, over many draws of what is pruned; it is a sum over the rows, each weighted."""
    generator = torch.Generator().manual_seed(0)
    advantages = torch.tensor([1.5, -0.5, -0.5, -0.5, 0.2, -0.2, 0.1, -0.1, 0.0, 0.0, 0.0, 0.0])
    contexts = torch.randn(12, 4, generator=generator)
    actions = torch.randint(0, 3, (12,), generator=generator)
    policy = torch.nn.Linear(4, 3)

    logps = policy(contexts).log_softmax(-1).gather(1, actions[:, None]).squeeze(1)
    losses = -advantages * logps / len(advantages)
    gradients = torch.stack([torch.autograd.grad(loss, policy.weight, retain_graph=True)[0] for loss in losses])

    whole = gradients.sum(dim=0)
    draws = [draw_survivors(advantages, 4, HALF, generator) for _ in range(4000)]
    drawn = torch.stack([(weights[:, None, None] * gradients[rows]).sum(dim=0) for rows, weights in draws])
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    assert drawn.std() > 0
    assert ((drawn.mean(dim=0) - whole).abs() <= 4.5 * error + 1e-7).all()


def test_what_has_signal_always_stays_and_counts_once():
    advantages = torch.tensor([2.0, -2.0, 0.1, -0.1, 0.01, -0.01, 0.01, -0.01])
    for seed in range(20):
        kept, weights = draw_survivors(advantages, 4, HALF, torch.Generator().manual_seed(seed))
        chosen = dict(zip(kept.tolist(), weights.tolist(), strict=True))
        assert chosen[0] == chosen[1] == 1.0
        assert all(chosen[row] == 2.0 for row in (2, 3) if row in chosen)
        assert all(chosen[row] == 4.0 for row in (4, 5, 6, 7) if row in chosen)


def test_nothing_to_prune_keeps_all():
    kept, weights = draw_survivors(torch.randn(8), 4, PruningSettings(completions=0, groups=0))
    assert kept.tolist() == list(range(8))
    assert weights.tolist() == [1.0] * 8

"""S-GRPO (arXiv 2505.07686): a serial group of early exits on one trajectory, with a reward that decays.

The authors' code is not public. What its description leaves open is chosen here: exit positions are drawn uniformly
over the tokens of the thought, and a completion's loss covers all of it, the shared prefix too, as in GRPO.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import partial

from training.methods.interface import PolicyGradient, Scored
from training.paths import cut_at, joined, plain_text
from training.recipe import RewardSettings
from training.rollout import Rollout, RolloutContext, plain
from training.sampler import Completion, Request, finished

INDUCER = "\nTime is limited, stop thinking and start answering.\n{end}\n\n"
BARE_CLOSE = "\n{end}\n\n"
"""Without the sentence, for a tokenizer that takes it to pieces: in a short thought it would be most of the loss."""


def rewards(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    """``1 / 2 ** (n - 1)`` for the n-th correct completion of a group from its first exit on, 0 for a wrong one."""
    seen: Counter[Hashable] = Counter()
    values = []
    for one in batch:
        seen[one.group] += one.correct
        values.append(0.5 ** (seen[one.group] - 1) if one.correct else 0.0)
    return values


def serial_rollouts(context: RolloutContext, prompts: Sequence[list[int]], inducer: str = INDUCER) -> list[Rollout]:
    """Per group one whole trajectory and exits at random positions of its thought, from early to late, it last.

    The exits of a trajectory are queued the moment it ends. ``inducer`` closes their thoughts.
    """
    groups = prompts[:: context.group_size]
    whole: dict[str, int] = {}
    exits: dict[str, tuple[int, int]] = {}
    paths: list[list[tuple[list[int], int]]] = [[] for _ in groups]
    found: list[list[Rollout | None]] = [[None] * context.group_size for _ in groups]
    for index, prompt in enumerate(groups):
        request = Request(prompt, context.config.total_tokens, context.sampling)
        whole[context.engine.submit(request)] = index
    for request_id, completion in finished(context.engine):
        if request_id in whole:
            group = whole[request_id]
            found[group][-1] = plain(context.tokenizer, completion)
            paths[group] = _exits(context, completion, inducer.format(end=context.config.think[1]))
            for position, (path, _) in enumerate(paths[group]):
                room = max(1, context.config.total_tokens - len(path))
                request = Request(groups[group] + path, room, context.sampling)
                exits[context.engine.submit(request)] = (group, position)
        else:
            group, position = exits[request_id]
            found[group][position] = _truncated(context, *paths[group][position], completion)
    return [rollout for group in found for rollout in group if rollout is not None]


def _exits(context: RolloutContext, completion: Completion, inducer: str) -> list[tuple[list[int], int]]:
    """Paths that end in the inducer, and how many tokens of the trajectory each keeps."""
    tokens = list(completion.tokens[:-1] if completion.finish == "eos" else completion.tokens)
    thought = _thought_length(context, tokens, len(inducer.encode()))
    positions = sorted(context.rng.randint(1, thought) for _ in range(context.group_size - 1))
    return [joined(context.tokenizer, tokens[:position], inducer) for position in positions]


def _thought_length(context: RolloutContext, tokens: list[int], reserve: int) -> int:
    """Tokens before the closing tag, and at most so many that the inducer and an answer still fit."""
    before, tag, _ = context.tokenizer.decode(tokens).partition(context.config.think[1])
    thought = cut_at(context.tokenizer, tokens, before)[0] if tag else len(tokens)
    return max(1, min(thought, context.config.total_tokens - reserve - 1))


def _truncated(context: RolloutContext, path: list[int], kept: int, completion: Completion) -> Rollout:
    tokens = path + list(completion.tokens)
    sampled = [1] * kept + [0] * (len(path) - kept) + [1] * len(completion.tokens)
    return Rollout(tokens, sampled, plain_text(context.tokenizer, tokens), "serial", reused=kept)


METHOD = PolicyGradient(serial_rollouts, rewards, scale_advantages=False)
WITH_BARE_CLOSE = PolicyGradient(partial(serial_rollouts, inducer=BARE_CLOSE), rewards, scale_advantages=False)

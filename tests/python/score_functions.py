"""Functions of scores that tests give to attention: of numbers as well as of whole tensors."""

import torch
from torch import Tensor


def functions(device: str, heads: int = 4, length: int = 300) -> dict:
    """By name; each (score, batch, head, query, key) -> score, with tensors that it captures."""
    generator = torch.Generator().manual_seed(0)
    slopes = (0.5 ** torch.arange(1, heads + 1)).to(device)
    table = torch.randn(heads, 2 * length + 1, generator=generator).to(device).half()
    document = torch.sort(torch.randint(0, 5, (2, length), generator=generator)).values.to(device)
    temperature = torch.rand(2, heads, generator=generator).to(device) + 0.5
    alpha = torch.tensor(0.75)

    def alibi(score, b, h, q, k):
        return score - slopes[h] * (q - k).abs()

    def softcap(score, b, h, q, k):
        return 3 * torch.tanh(score / 3)

    def relative(score, b, h, q, k):
        return score + table[h, q - k + length]

    def documents(score, b, h, q, k):
        return torch.where(document[b, q] == document[b, k], score, float("-inf"))

    def tempered(score, b, h, q, k):
        return score * temperature[b, h] + alpha * torch.sigmoid(score) * torch.where((q + k) % 3 == 0, 1.0, 0.5)

    def hostile(score, b, h, q, k):  # NaN and infinite where q is not above k, and at the last tiles' ends
        return score / torch.sqrt((q - k).clamp(min=0).float()) + torch.log((length - k).float()) * 0

    return {f.__name__: f for f in (alibi, softcap, relative, documents, tempered, hostile)}


def whole(function, scores: Tensor) -> Tensor:
    """A function of all scores [batch, heads, queries, keys], by vmap, as flex_attention says what it does."""
    places = [torch.arange(size, device=scores.device) for size in scores.shape]
    for dims in ((None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, None, None)):
        function = torch.vmap(function, in_dims=(0, *dims))
    return function(scores, *places)

"""Small networks that read texts, right ones and wrong ones."""

import torch
from torch import nn

TOKENS, SIZE, MOST = 300, 16, 64


class Encoder(nn.Module):
    """[B, S] twice -> [B, S, SIZE]: positions, and one layer of attention that leaves padding out."""

    def __init__(self, tokens: int = TOKENS, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(tokens, SIZE)
        self.places = nn.Embedding(MOST, SIZE)
        self.query, self.key, self.value = (nn.Linear(SIZE, SIZE) for _ in range(3))
        self.out = nn.Linear(SIZE, SIZE)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.words(input_ids) + self.places(places)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / SIZE**0.5
        return x + self.out(self.attend(scores, attention_mask) @ self.value(x))

    def attend(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(mask[:, None] == 0, torch.finfo(scores.dtype).min).softmax(-1)


class Blind(Encoder):
    """The classic fault: padding is attended to."""

    def attend(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        del mask
        return scores.softmax(-1)


class Kinds(Encoder):
    """One that is told kinds of tokens, and called by name; transformers' networks give mappings."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = nn.Embedding(2, SIZE)

    def forward(self, token_type_ids, input_ids, attention_mask, position_ids=None):
        del position_ids
        return {"last_hidden_state": super().forward(input_ids, attention_mask) + self.kinds(token_type_ids)}


class Classes(Encoder):
    """Scores [B, 3]."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.scores = nn.Linear(SIZE, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return 4 * self.scores(super().forward(input_ids, attention_mask)[:, 0])


class Shares(Classes):
    """Probabilities already."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids, attention_mask).softmax(1)


class Sentences(Encoder):
    """[B, SIZE]: pooled by itself."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        return (super().forward(input_ids, attention_mask) * mask).sum(1) / mask.sum(1).clamp_min(1)


class NotANumber(Encoder):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids, attention_mask) * float("nan")


class ByChance(Encoder):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(input_ids, attention_mask), 0.5, training=True)


class OfTheBatch(Encoder):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = super().forward(input_ids, attention_mask)
        return x - x.mean((0, 1))


class OneInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(TOKENS, SIZE)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.words(input_ids)

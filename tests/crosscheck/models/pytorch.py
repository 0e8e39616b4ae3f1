"""The models of the moved runs, as a PyTorch program writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.norm(self.first(x))))


class Cnn(nn.Module):
    """With batch norm, a transposed convolution, and a linear layer after flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4, momentum=0.1)
        self.up = nn.ConvTranspose2d(4, 3, 3, padding=1)
        self.head = nn.Linear(3 * 5 * 5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.bn(self.conv(x)))
        return self.head(torch.tanh(self.up(x)).flatten(1))


class Transformer(nn.Module):
    """One block whose output layer is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.ln_1 = nn.LayerNorm(8)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.ln_2 = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        x = x + self.down(torch.tanh(self.up(self.ln_2(x))))
        return self.head(x)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(6, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


MODELS = {
    "mlp": Mlp,
    "cnn": Cnn,
    "transformer": Transformer,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
}
OPTIMIZERS = {
    "adamw": lambda ps: torch.optim.AdamW(
        ps, lr=2**-6, weight_decay=2**-4, betas=(0.875, 0.984375)
    ),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=2**-4, momentum=0.875),
}


class Program:
    """A PyTorch run of one model."""

    def __init__(self, model: str, optimizer: str) -> None:
        torch.manual_seed(0)
        self.model = MODELS[model]().double()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())

    def step(self, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
        """One update; the loss before it."""
        self.model.train()
        self.optimizer.zero_grad()
        out = self.model(torch.from_numpy(x))
        loss = ((out - torch.from_numpy(y)) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def save(self, path: Path) -> Path:
        torch.save(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, path
        )
        return path

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

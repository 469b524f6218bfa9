"""The batches of the steps that are left, on the device before they are needed.
Which tokens make a batch is the cursor's business; nothing here keeps a place or starts a thread.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.train.machine.ranks import ALONE, Ranks
from tuner.train.text.cursor import Windowed


class Ahead:
    """Batches ``first`` to ``first + count`` as token ids (size, context + 1) on ``device``: a list-like loader. Of
    several ``ranks`` each has its part of every batch.

    On a GPU a step only launches its work, so the next batch is gathered, pinned and sent while the GPU is still
    busy with the last. On the CPU a gather takes 10 us (12 x 65 tokens) to 40 us (64 x 1025) from a warm memory map,
    and handing it to a thread costs 25 us more; from a cold map, which a corpus just built never is, a thread would
    save 8 to 16 % of a step.
    """

    def __init__(
        self, windows: Windowed, first: int, count: int, size: int, device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        self.windows, self.first, self.count, self.size, self.device = windows, first, count, size, device
        self.ranks = ranks

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        if index >= self.count:
            raise IndexError(index)
        ids = self.ranks.part(torch.from_numpy(self.windows.batch(self.first + index, self.size)))
        return ids if self.device.type == "cpu" else ids.pin_memory().to(self.device, non_blocking=True)

# SPDX-License-Identifier: Apache-2.0
"""Decoding as semantics.md 4 describes it, at temperature 0, over the decoder of reference.py: the oracle of
test_diffusion.py. It shares no code with wf and forwards more than it needs to: K and V are kept only where the text
says that they are.

Positions of a block may be masked or not whatever their ids are, so a mask token in a prompt is a token like others."""

import dataclasses

import numpy as np

STYLES = ("fast-dllm-v2", "causal")
MODES = ("ar", "greedy", "iterative", "adaptive")


@dataclasses.dataclass
class Settings:
    mode: str = "adaptive"
    style: str = "fast-dllm-v2"
    threshold: float = 0.7
    block: int = 32
    sub_block: int = 8
    max_passes: int = 10
    block_cache: bool = False
    mask: int = 2047
    ends: tuple = (2045, 2046)


@dataclasses.dataclass
class Decoded:
    """nearest_to_threshold: the smallest |confidence - threshold| that was met. margin: by how much logits would have
    to move at least for another decision: between the two best tokens of a committed position, of a confidence from
    the threshold (in log odds), between the two most probable positions where it matters. tie, router_gap: see
    Reference.forward; the least of all rows. short_passes: those over a sub-block's rows only."""

    ids: list
    passes: int = 0
    nearest_to_threshold: float = np.inf
    margin: float = np.inf
    tie: float = 0.5
    router_gap: float = np.inf
    short_passes: int = 0


def log_odds(p):
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def margin_of_commits(sure, threshold):
    """By how much a confidence must move, in log odds, for another set of committed positions."""
    margin = np.inf
    if 0 < threshold < 1:  # above 0 are all, above 1 none
        margin = np.abs(log_odds(sure) - log_odds(threshold)).min()
    if len(sure) > 1 and not (sure > threshold).any():
        second, most = np.partition(sure, -2)[-2:]
        # Near 1 float32 cannot tell them apart, whatever their odds are.
        margin = min(margin, log_odds(most) - log_odds(second) if most - second > 1e-5 else 0.0)
    return margin


class Decoder:
    """One text. `text` holds tokens up to the end of the block that is being filled, `masked` which of them are not
    known; `memory` is the K/V of every position as of the last pass over it."""

    def __init__(self, model, prompt, max_tokens, settings):
        self.model, self.s, self.prompt, self.max_tokens = model, settings, len(prompt), max_tokens
        assert settings.style in STYLES and settings.mode in MODES and len(prompt) > 0
        self.text, self.masked = np.array(prompt), np.zeros(len(prompt), bool)
        self.memory = model.memory(len(prompt) + max_tokens + settings.block)
        self.out = Decoded([])

    def forward(self, begin, end):
        """Logits of the rows of [begin, end), without the mask token."""
        at, keys = np.arange(begin, end), np.arange(self.memory.shape[2])
        if self.s.style == "causal" or self.s.mode == "ar":
            visible = keys <= at[:, None]
        else:
            visible = keys // self.s.block <= at[:, None] // self.s.block
        ids = np.where(self.masked, self.s.mask, self.text)[begin:end]
        rows = self.model.forward(ids, at, self.memory, visible[:, : self.memory.shape[2]])
        rows[:, self.s.mask] = -np.inf
        self.out.tie = min(self.out.tie, self.model.ties.min())
        self.out.router_gap = min(self.out.router_gap, self.model.router_gaps.min())
        return rows

    def note(self, margin):
        self.out.margin = min(self.out.margin, margin)

    def choose(self, rows):
        """The best token of each row and its probability; ties: the lowest id."""
        best = rows.argmax(axis=1)
        top = rows.max(axis=1, keepdims=True)
        return best, 1 / np.exp(rows - top).sum(axis=1)

    def commit(self, position, token, row):
        second, first = np.partition(row, -2)[-2:]
        self.note(first - second)
        self.text[position], self.masked[position] = token, False

    def append_best(self, row):
        self.text, self.masked = np.append(self.text, 0), np.append(self.masked, True)
        self.commit(len(self.text) - 1, row.argmax(), row)

    def done(self):
        """Whether the text up to an end token or up to max_tokens is known; then it is in out.ids."""
        self.out.ids = []
        for token, masked in zip(self.text[self.prompt :], self.masked[self.prompt :]):
            if masked:
                return False
            self.out.ids.append(int(token))
            if len(self.out.ids) == self.max_tokens or (token in self.s.ends and token != self.s.mask):
                return True
        return False

    def thresholds(self):
        """Of the passes over a sub-block."""
        t, n = self.s.threshold, self.s.max_passes
        early = [min(t, max(0.5, t - 0.4)), min(t, max(0.7, t - 0.2))] if self.s.mode == "adaptive" else []
        return [*early, *[t] * n][:n]

    def predict(self, begin, end):
        """A pass over a block or a sub-block: the rows that predict [begin, end)."""
        self.out.passes += 1
        if self.s.style == "causal":
            # Row begin - 1 has been forwarded before; it is the same again.
            return self.forward(begin - 1, end)[:-1]
        assert not self.masked[begin]  # row begin - 1 is of the block or sub-block before, and not asked for
        return np.roll(self.forward(begin, end), 1, axis=0)

    def fill_at_once(self, begin, end):
        if not self.masked[begin:end].any():  # a block of one, whose first token is known
            return
        rows = self.predict(begin, end)
        best, _ = self.choose(rows)
        for i in np.flatnonzero(self.masked[begin:end]):
            self.commit(begin + i, best[i], rows[i])

    def fill_sub_block(self, block, end, begin, stop):
        """Until [begin, stop) has no mask or the text is known."""
        for number, threshold in enumerate(self.thresholds(), 1):
            if not self.masked[begin:stop].any():
                return
            low, high = block, end
            if self.s.block_cache and self.s.style == "fast-dllm-v2":
                # The rest of the block is in the memory as its last passes left it.
                if self.forwarded == block and not self.masked[begin]:
                    low, high = begin, stop
                    self.out.short_passes += 1
                self.forwarded = block
            rows = self.predict(low, high)
            best, confidence = self.choose(rows)
            at = np.flatnonzero(self.masked[begin:stop]) + begin
            sure = confidence[at - low]
            last = number == self.s.max_passes
            self.out.nearest_to_threshold = min(self.out.nearest_to_threshold, np.abs(sure - threshold).min())
            take = (sure > threshold) | last
            if not last:
                self.note(margin_of_commits(sure, threshold))
            take[sure.argmax()] = True
            for i in at[take]:
                self.commit(i, best[i - low], rows[i - low])
            if self.done():
                return

    def fill(self, block, end):
        if self.s.mode == "greedy":
            return self.fill_at_once(block, end)
        for begin in range(block, end, self.s.sub_block):
            self.fill_sub_block(block, end, begin, min(begin + self.s.sub_block, end))
            if self.done():
                return

    def autoregressive(self):
        self.append_best(self.forward(0, self.prompt)[-1])
        while not self.done():
            self.append_best(self.forward(len(self.text) - 1, len(self.text))[-1])

    def blocks(self):
        size, n = self.s.block, self.prompt
        causal = self.s.style == "causal"
        begin = n if causal else n // size * size
        if begin > 0:
            rows = self.forward(0, begin)
        self.forwarded = None  # the last block that had a pass
        while True:
            if not causal and len(self.text) == begin:
                self.append_best(rows[-1])
                if self.done():
                    return
            known, end = len(self.text), begin + size
            self.text = np.append(self.text, np.full(end - known, self.s.mask))
            self.masked = np.append(self.masked, np.ones(end - known, bool))
            self.fill(begin, end)
            if self.done():
                return
            rows = self.forward(begin, end)
            self.out.passes += not causal
            begin = end

    def run(self):
        if self.s.mode == "ar":
            self.autoregressive()
        else:
            self.blocks()
        return self.out


def decode(model, prompt, max_tokens, **settings):
    """model: Reference. Returns Decoded; ids hold the end token, if there is one."""
    return Decoder(model, prompt, max_tokens, Settings(**settings)).run()

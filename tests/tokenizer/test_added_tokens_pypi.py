# SPDX-License-Identifier: Apache-2.0
"""Added tokens with their flags (lstrip, rstrip, single_word, normalized) are found where PyPI `tokenizers` finds
them, in byte-level and SentencePiece-style vocabularies, read from tokenizer.json and from the GGUF made of it."""
import itertools
import random

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from pypi_helpers import ATOMS, UNICODE, ask, compare, random_char, strings

FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
NEIGHBOURS = ["", " ", "  ", "\t\n", "\u00a0", "\u3000", "\u2028", "a", "Z", "9", "_", "\u00e9", "\u0301", "\u4f60", "\u0661",
              "\u200d", "\u203f", "\u24b6", "\u00bd", "\u2167", "-", "!", "\u2581", "\u0338", "\U0001f600", "\U0001f130"]


def base(form):
    if form.startswith("bytes"):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = [("Ġ", "a"), ("a", "b"), ("Ġ", "Ġ"), ("<", "t")]
        t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(alphabet + [a + b for a, b in merges])}, merges=merges))
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=form == "bytes, prefix", use_regex=True)
        if form == "bytes, nfc":
            t.normalizer = normalizers.NFC()
        return t
    texts = ["<unk>"] + [f"<0x{b:02X}>" for b in range(256)] + list("▁ab<t")
    merges = [("▁", "a"), ("a", "b"), ("▁", "▁")]
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(texts + [a + b for a, b in merges])}, merges=merges,
                             byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if form == "pieces, legacy":
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=form.split(", ")[1], split=False)
    return t


FORMS = ["bytes", "bytes, nfc", "bytes, prefix", "pieces, legacy", "pieces, always", "pieces, first", "pieces, never"]


@pytest.mark.parametrize("form", FORMS)
def test_flags_equal_tokenizers(form, tmp_path):
    """Each of the 16 combinations as a user-defined and as a control token."""
    reference = base(form)
    names = []
    for n, values in enumerate(itertools.product([False, True], repeat=4)):
        for special in (False, True):
            name = f"<{'s' if special else 't'}{n}>"
            token = AddedToken(name, special=special, **dict(zip(FLAGS, values)))
            (reference.add_special_tokens if special else reference.add_tokens)([token])
            names.append(name)
    # Without brackets, so that words may touch; overlapping; and one that NFC composes.
    for name in ("tok", "<t1><t2>", "tok tok", "caf\u00e9"):
        reference.add_tokens([AddedToken(name, single_word=name == "tok", lstrip=name == "caf\u00e9", normalized=name != "tok")])
        names.append(name)
    reference.save(str(tmp_path / "tokenizer.json"))
    texts = [before + name + after for name in names for before in NEIGHBOURS for after in NEIGHBOURS]
    rng = random.Random(len(form))
    parts = names + NEIGHBOURS + ATOMS + ["cafe\u0301", "tok", " "]
    texts += ["".join(rng.choice(parts) if rng.random() < 0.9 else random_char(rng) for _ in range(rng.randrange(1, 16)))
              for _ in range(6000)]
    texts = [t for t in texts if "\ud800" not in t]
    compare(tmp_path, reference, texts, add_special=False)
    ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    compare(tmp_path / "form.gguf", reference, texts[-4000:], add_special=False)
    control = {reference.token_to_id(n) for n in names if n.startswith("<s")}
    answers = ask(tmp_path, [{"text": t, "parse_special": False} for t in texts])
    assert not [t for t, ids in zip(texts, answers) if control & set(ids)]


@pytest.mark.parametrize("form", FORMS)
def test_permission_ends_with_its_segment(form, tmp_path):
    """Control tokens with every flag are found in trusted segments and nowhere else."""
    reference = base(form)
    for n, values in enumerate(itertools.product([False, True], repeat=4)):
        reference.add_special_tokens([AddedToken(f"<s{n}>", special=True, **dict(zip(FLAGS, values)))])
    reference.save(str(tmp_path / "tokenizer.json"))
    rng = random.Random(len(form))
    requests, wanted = [], []
    first = reference.token_to_id("<s0>")
    for _ in range(2000):
        n, m = rng.randrange(16), rng.randrange(16)
        around = rng.choice(["", " ", "!", "\u00e9 "])
        segments = [[f"{around} <s{n}> ", True], [f"<s{m}> x", False], [f" <s{n}>", True], [">", False]]
        requests.append({"segments": segments})
        # What a user's token gives is not said by the library: another text of its shape stands for it.
        whole = "".join(t if trusted else t.replace("<s", "<q") for t, trusted in segments)
        wanted.append([i for i in reference.encode(whole, add_special_tokens=False).ids if i >= first])
    for request, ids, tokens in zip(requests, ask(tmp_path, requests), wanted):
        assert [i for i in ids if i >= first] == tokens, (request, ids)
    assert sum(len(t) for t in wanted) > 3000


def test_every_code_point_beside_a_single_word(tmp_path):
    """What counts as a letter next to it, and as white space that goes with a token."""
    reference = base("bytes")
    reference.add_tokens([AddedToken("tok", single_word=True), AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True)])
    reference.save(str(tmp_path / "tokenizer.json"))
    show = lambda c: f"!{chr(c)}tok! !tok{chr(c)}! !{chr(c)}<l>!<r>{chr(c)}!"

    def different(codes, size):
        texts = ["".join(map(show, codes[i:i + size])) for i in range(0, len(codes), size)]
        theirs = [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)]
        ours = ask(tmp_path, [{"text": t} for t in texts])
        return [c for i, (a, b) in enumerate(zip(ours, theirs)) if a != b for c in codes[i * size:(i + 1) * size]]

    codes = different(different([c for c in range(0x110000) if not 0xD800 <= c < 0xE000], 256), 1)
    assigned = [hex(c) for c in codes if UNICODE.category(chr(c)) != "Cn"]
    assert not assigned, f"{len(assigned)} assigned code points differ: {assigned[:20]}"
    print(f"{len(codes)} code points without a character in Unicode {UNICODE.unidata_version} differ")


def test_tokens_without_flags_stay_as_they_are(tmp_path):
    reference = base("bytes")
    reference.add_tokens([AddedToken("<plain>", normalized=False)])
    reference.save(str(tmp_path / "tokenizer.json"))
    compare(tmp_path, reference, strings(500, atoms=ATOMS + ["<plain>"]), add_special=False)

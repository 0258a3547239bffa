# SPDX-License-Identifier: Apache-2.0
"""Ids and texts are those of PyPI `tokenizers`: on the sample model's tokenizer.json over 10,000 random and
adversarial strings, and on small tokenizers of every supported form, trained here."""
import json
import random

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pypi_helpers import ATOMS, CONTROL, SOURCE, UNICODE, ask, compare, strings

BARD = SOURCE / "models" / "bard"


@pytest.fixture(scope="module")
def bard():
    return Tokenizer.from_file(str(BARD / "tokenizer.json"))


@pytest.mark.parametrize("add_special", [False, True])
def test_encode_equals_tokenizers_on_10000_strings(bard, add_special):
    compare(BARD, bard, strings(10000), add_special)


def test_the_vocabulary_survives_gguf(bard, tmp_path):
    ask(BARD, [{"write": str(tmp_path / "bard.gguf")}])
    compare(tmp_path / "bard.gguf", bard, strings(3000))


@pytest.mark.parametrize("skip_special", [False, True])
def test_decode_equals_tokenizers(bard, skip_special):
    rng = random.Random(7)
    lists = [bard.encode(t).ids for t in strings(3000)]
    lists += [[rng.randrange(2048) for _ in range(rng.randrange(1, 30))] for _ in range(3000)]
    ours = ask(BARD, [{"ids": ids, "skip_special": skip_special} for ids in lists])
    theirs = bard.decode_batch(lists, skip_special_tokens=skip_special)
    wrong = [(i, a, b) for i, a, b in zip(lists, ours, theirs) if a != b]
    assert not wrong, f"{len(wrong)} differ, e.g. {wrong[0]}"


def test_user_text_never_becomes_a_control_token(bard):
    control = {bard.token_to_id(t) for t in CONTROL}
    texts = strings(10000)
    answers = ask(BARD, [{"text": t, "parse_special": False} for t in texts])
    assert not [t for t, ids in zip(texts, answers) if control & set(ids)]
    plain = ask(BARD, [{"ids": ids} for ids in answers])
    assert plain == texts


def test_segments_join_as_one_text(bard):
    """Where no control token is written in the untrusted part, segments give the ids of the whole string."""
    rng = random.Random(3)
    requests, wholes = [], []
    for _ in range(1000):
        parts = [(rng.choice(ATOMS), True) if rng.random() < 0.5 else (rng.choice(ATOMS[12:]), False) for _ in range(8)]
        whole = "".join(p for p, _ in parts)
        if any(c in whole.replace("".join(CONTROL), "") and c not in [p for p, _ in parts] for c in CONTROL):
            continue  # a control token came into being across a border
        requests.append({"segments": parts, "add_special": False})
        wholes.append(whole)
    ours = ask(BARD, requests)
    for whole, ids in zip(wholes, ours):
        assert ids == bard.encode(whole, add_special_tokens=False).ids, repr(whole)
    injected = ask(BARD, [{"segments": [["User: ", True], ["<|eot_id|>", False], ["<|eot_id|>", True]]},
                          {"segments": [["<|eot", True], ["_id|>", False]]}, {"segments": [["<|eot", True], ["_id|>", True]]}])
    assert [ids.count(2046) for ids in injected] == [1, 0, 1]


CORPUS = ["The quick brown fox jumps over the lazy dog. It's 12345 o'clock, isn't it?", "Größe, Füße, naïve café",
          "for (int i = 0; i < 10; ++i) {\n    x[i] = y;\n}\n", "你好，世界。", "don't DON'T we'll  x=3.14\n\n\tif (a==b):  \n"] * 20
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(pre, normalizer=None, specials=("<|endoftext|>", "<|im_end|>"), post=None):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    if post:
        t.post_processor = post
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=700, special_tokens=list(specials), show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("    ", normalized=False)])
    return t


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(regex), behavior, invert)


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
FORMS = {
    "gpt-2": lambda: byte_level(GPT2),
    "qwen2": lambda: byte_level(pre_tokenizers.Sequence([split(LLAMA3.replace("{1,3}", "")), BYTES]), normalizers.NFC()),
    "smaug-bpe": lambda: byte_level(pre_tokenizers.Sequence([split(LLAMA3), BYTES])),
    "llama3 removed": lambda: byte_level(pre_tokenizers.Sequence([split(LLAMA3, "removed", True), BYTES])),
    "smollm": lambda: byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])),
    "falcon": lambda: byte_level(pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("contiguous"), GPT2, pre_tokenizers.Digits(individual_digits=False),
         split("[0-9][0-9][0-9]")])),
    "digits after bytes": lambda: byte_level(pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("isolated"), GPT2, pre_tokenizers.Digits(individual_digits=True)])),
    "unknown regex": lambda: byte_level(pre_tokenizers.Sequence(
        [split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"),
         split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
               r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), BYTES])),
    "odd regexes": lambda: byte_level(pre_tokenizers.Sequence(
        [split(r"\w+|\h\h"), split(r"^\S"), split(r"[\S-]x?|(?=b)"), split(r".$"), split(r"a{,2}b"), BYTES])),
    "literal split": lambda: byte_level(pre_tokenizers.Sequence([pre_tokenizers.Split("=(", "isolated"), BYTES])),
    "prefix space": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)),
    "prefix space, then digits": lambda: byte_level(pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True), pre_tokenizers.Digits(individual_digits=True)])),
    "bos and eos": lambda: byte_level(GPT2, post=processors.TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", 0), ("<|im_end|>", 1)])),
}


@pytest.mark.parametrize("form", FORMS)
def test_byte_level_forms_equal_tokenizers(form, tmp_path):
    reference = FORMS[form]()
    reference.save(str(tmp_path / "tokenizer.json"))
    texts = strings(2500, seed=len(form), atoms=ATOMS + ["<tool>", "    ", "<|endoftext|>", "<|im_end|>", "=(", "aab", "1f"])
    special = form == "bos and eos"
    if special:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}))
    theirs = compare(tmp_path, reference, texts, add_special=special)
    ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    compare(tmp_path / "form.gguf", reference, texts[:500], add_special=special)
    assert ask(tmp_path, [{"ids": i} for i in theirs]) == reference.decode_batch(theirs, skip_special_tokens=False)


REPLACE = normalizers.Replace(" ", "▁")
SPM_FORMS = {  # normalizer, pre-tokenizer, whether a space is put in front
    "legacy": (normalizers.Sequence([normalizers.Prepend("▁"), REPLACE]), None, True),
    "replace, then prepend": (normalizers.Sequence([REPLACE, normalizers.Prepend("▁")]), None, True),
    "replace only": (REPLACE, None, False),
    "nfc": (normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("▁"), REPLACE]), None, True),
    "always": (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False), True),
    "first": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), True),
    "never": (None, pre_tokenizers.Metaspace(prepend_scheme="never", split=False), False),
    "always, split": (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True), True),
    "first, split": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=True), True),
    "never, split": (None, pre_tokenizers.Metaspace(prepend_scheme="never", split=True), False),
    "split, then digits": (None, pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits(True)]), True),
    "as Gemma": (REPLACE, pre_tokenizers.Split(" ", "merged_with_previous"), False),
}


def spm(form, byte_fallback=True, fuse_unk=True):
    normalizer, pre, prefix = SPM_FORMS[form]
    t = Tokenizer(models.BPE(byte_fallback=byte_fallback, unk_token="<unk>", fuse_unk=fuse_unk))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256 if byte_fallback else 0)]
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=700, special_tokens=specials, show_progress=False))
    tokenizer = json.loads(t.to_str())
    tokenizer["added_tokens"] = tokenizer["added_tokens"][:3]
    tokenizer["model"]["byte_fallback"] = byte_fallback
    t = Tokenizer.from_str(json.dumps(tokenizer))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] +
                                  ([decoders.Strip(" ", 1, 0)] if prefix else []))
    return t


def test_every_code_point_splits_alike(tmp_path):
    """Classes of all of Unicode: a vocabulary whose ids show where words end around a character."""
    to_byte_text = lambda raw: "".join(piece for piece, _ in BYTES.pre_tokenize_str(raw))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    around = [to_byte_text(c) for c in "z1! \n"]
    merges = [(x, y) for a in around for b in alphabet for x, y in ((a, b), (b, a))]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(alphabet + [x + y for x, y in merges]))}
    reference = Tokenizer(models.BPE(vocab=vocab, merges=list(dict.fromkeys(merges))))
    reference.pre_tokenizer = pre_tokenizers.Sequence([split(LLAMA3), BYTES])
    reference.save(str(tmp_path / "tokenizer.json"))
    show = lambda c: f"z{chr(c)}z1{chr(c)}1!{chr(c)}! {chr(c)} z{chr(c)}'dz {chr(c)}\n"

    def different(codes, size):
        texts = ["".join(map(show, codes[i:i + size])) for i in range(0, len(codes), size)]
        ours = ask(tmp_path, [{"text": t} for t in texts])
        theirs = [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)]
        return [c for i, (a, b) in enumerate(zip(ours, theirs)) if a != b for c in codes[i * size:(i + 1) * size]]

    codes = different(different([c for c in range(0x110000) if not 0xD800 <= c < 0xE000], 256), 1)
    assigned = [hex(c) for c in codes if UNICODE.category(chr(c)) != "Cn"]
    assert not assigned, f"{len(assigned)} assigned code points differ: {assigned[:20]}"
    print(f"{len(codes)} code points without a character in Unicode {UNICODE.unidata_version} differ")


@pytest.mark.parametrize("form", SPM_FORMS)
def test_sentencepiece_forms_equal_tokenizers(form, tmp_path):
    reference = spm(form)
    reference.save(str(tmp_path / "tokenizer.json"))
    texts = strings(2500, seed=len(form))
    compare(tmp_path, reference, texts, add_special=False)
    ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    compare(tmp_path / "form.gguf", reference, texts[:500], add_special=False)
    plain = [t for t in texts if not any(s in t for s in ["<unk>", "<s>", "</s>", "\u2581"])]
    ids = [e.ids for e in reference.encode_batch(plain, add_special_tokens=False)]
    ours = ask(tmp_path, [{"ids": i} for i in ids])
    assert ours == reference.decode_batch(ids, skip_special_tokens=False)
    # Metaspace does not tell a leading space from the one it adds, NFC changes text.
    if form in ("legacy", "replace, then prepend", "replace only", "never", "never, split", "as Gemma"):
        assert ours == plain


@pytest.mark.parametrize("fuse_unk", [False, True])
def test_unknown_characters_without_byte_tokens(fuse_unk, tmp_path):
    reference = spm("legacy", byte_fallback=False, fuse_unk=fuse_unk)
    reference.save(str(tmp_path / "tokenizer.json"))
    texts = strings(2500, seed=5)
    theirs = compare(tmp_path, reference, texts, add_special=False)
    assert sum(ids.count(0) for ids in theirs) > 1000
    ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    compare(tmp_path / "form.gguf", reference, texts[:500], add_special=False)

# SPDX-License-Identifier: Apache-2.0
"""Ids and texts are those of PyPI `tokenizers`: on the sample model's tokenizer.json over 10,000 random and
adversarial strings, and on small tokenizers of every supported form, trained here."""
import json
import os
import random
import subprocess
import unicodedata
from pathlib import Path

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SOURCE = Path(os.environ["WF_SOURCE"])
PROGRAM = Path(os.environ["WF_BIN"]) / "wf_tokenize"
BARD = SOURCE / "models" / "bard"

# The libraries may know different versions of Unicode, PCRE2 10.42 knows 14: they agree where a character was
# assigned by then. A newer Python cannot tell, but has the tables of Unicode 3.2.
UNICODE = unicodedata if int(unicodedata.unidata_version.split(".")[0]) <= 14 else unicodedata.ucd_3_2_0

CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|mask|>"]
ATOMS = CONTROL + [
    "<|", "|>", "<|eot_id", "eot_id|>", "<|eot_id|", "<<|eot_id|>>", "[PAD7]", "<0x41>", "<s>", "</s>", "\u2581",
    " ", "  ", "   ", "\t", "\n", "\n\n", "\r", "\r\n", "\v", "\f", "\x00", "\x1f", "\x7f", "\x85", "\xa0", "\u1680",
    "\u180e", "\u2000", "\u200a", "\u200b", "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff",
    "'s", "'S", "'t", "'T", "'re", "'RE", "'ve", "'vE", "'m", "'ll", "'Ll", "'d", "'\u017f", "'", "''", "don't",
    "0", "1", "12", "123", "1234", "12345678", "3.14", "\u0661\u0662", "\u00bd", "\u2167", "\u00b2", "\u0e51", "\U0001d7d9",
    "a\u0301", "\u0301", "e\u0308\u0301", "\u0915\u094d\u0937", "\u05e9\u05c1", "\u00e4", "\u00df", "\ufb01", "\u01c5", "\u02b0",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001f44d\U0001f3fd",
    "\u4f60\u597d", "\u65e5\u672c\u8a9e", "\ud55c\uae00", "\u1112\u1161\u11ab", "\u0437\u0434\u0440\u0430\u0432", "\u0645\u0631\u062d\u0628\u0627", "\uff5e",
    "!", "!!", "...", "--", "==", "$", "+", "<", ">", "^", "`", "|", "~", "_", "\"", "\\", "/", "#", "@", "\u2014", "\u20ac",
    "Hello", " the", "The king shall", "ROMEO:", " thou", "ing", "A", "zzz", "User: ", "Assistant: ",
    "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\ue000", "\U000e0001", "\u0378",
]


def random_char(rng):
    while True:
        plane = rng.choice([0x80, 0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
        code = rng.randrange(plane)
        if UNICODE.category(chr(code)) not in ("Cn", "Cs"):
            return chr(code)


def strings(count, seed=20240601, atoms=ATOMS):
    rng = random.Random(seed)
    out = ["", *atoms]
    out += [a + b for a in atoms[:12] for b in atoms]
    out += [" " * n for n in range(1, 40)] + ["x" + "\n" * n + " y" for n in range(6)] + ["a" * 3000, " " * 3000 + "a"]
    words = (SOURCE / "LICENSE").read_text().split(" ")
    while len(out) < count:
        kind = rng.randrange(4)
        n = rng.choice([1, 2, 3, 5, 8, 20, 60])
        if kind == 0:
            out.append("".join(random_char(rng) for _ in range(n)))
        elif kind == 1:
            out.append("".join(rng.choice(atoms) for _ in range(n)))
        elif kind == 2:
            out.append("".join(rng.choice([random_char(rng), rng.choice(atoms), rng.choice(words)]) for _ in range(n)))
        else:
            start = rng.randrange(len(words))
            out.append(" ".join(words[start:start + n]))
    return out[:count]


def ask(model, requests):
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    run = subprocess.run([str(PROGRAM), str(model)], input=lines.encode(), capture_output=True, timeout=600)
    assert run.returncode == 0, run.stderr.decode()
    answers = [json.loads(line) for line in run.stdout.decode().split("\n")[:-1]]
    assert len(answers) == len(requests)
    return answers


def compare(folder, reference, texts, add_special=True):
    ours = ask(folder, [{"text": t, "add_special": add_special, "parse_special": True} for t in texts])
    theirs = [e.ids for e in reference.encode_batch(texts, add_special_tokens=add_special)]
    if add_special:
        # Where the text itself begins with BOS they have two.
        first = reference.encode("", add_special_tokens=True).ids[:1]
        theirs = [t[1:] if first and t[:2] == first * 2 else t for t in theirs]
    wrong = [(t, a, b) for t, a, b in zip(texts, ours, theirs) if a != b]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, e.g. {wrong[0]}"
    return theirs


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


def spm(scheme):
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if scheme == "legacy":
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=700, special_tokens=specials, show_progress=False))
    tokenizer = json.loads(t.to_str())
    tokenizer["added_tokens"] = tokenizer["added_tokens"][:3]
    tokenizer["model"]["byte_fallback"] = True
    t = Tokenizer.from_str(json.dumps(tokenizer))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] +
                                  ([decoders.Strip(" ", 1, 0)] if scheme != "never" else []))
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


@pytest.mark.parametrize("scheme", ["legacy", "always", "first", "never"])
def test_sentencepiece_forms_equal_tokenizers(scheme, tmp_path):
    reference = spm(scheme)
    reference.save(str(tmp_path / "tokenizer.json"))
    texts = strings(2500, seed=len(scheme))
    theirs = compare(tmp_path, reference, texts, add_special=False)
    ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    compare(tmp_path / "form.gguf", reference, texts[:500], add_special=False)
    plain = [t for t in texts if not any(s in t for s in ["<unk>", "<s>", "</s>", "\u2581"])]
    ids = [e.ids for e in reference.encode_batch(plain, add_special_tokens=False)]
    ours = ask(tmp_path, [{"ids": i} for i in ids])
    assert ours == reference.decode_batch(ids, skip_special_tokens=False)
    # Metaspace does not tell a leading space from the one it adds.
    assert scheme in ("always", "first") or ours == plain

# SPDX-License-Identifier: Apache-2.0
"""tokenizer.model without tokenizer.json gives the ids of PyPI `sentencepiece`, and vocab.json with merges.txt
those of `tokenizers`. The models are trained here, from the licence and the sample model's documentation."""
import json
import os
import random
import struct
import subprocess
from pathlib import Path

import pytest

spm = pytest.importorskip("sentencepiece")
tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from pypi_helpers import ATOMS, PROGRAM, SOURCE, ask, compare, strings


def train(folder, **options):
    options = {"model_type": "bpe", "vocab_size": 900, "byte_fallback": True, "normalization_rule_name": "identity",
               "remove_extra_whitespaces": False, "split_digits": True, "character_coverage": 0.999,
               "allow_whitespace_only_pieces": True, "minloglevel": 2, "hard_vocab_limit": False} | options
    corpus = folder / "corpus.txt"
    texts = [p.read_text(encoding="utf-8") for p in (SOURCE / "LICENSE", SOURCE / "README.md", SOURCE / "DESIGN.md")]
    corpus.write_text("\n".join(texts) + "\nfür Größe  naïve    x = [1, 2]\n" * 20, encoding="utf-8")
    spm.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / "tokenizer"), **options)
    corpus.unlink()
    return spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def plain_strings(count, seed=11):
    """A NUL ends a text for some versions of sentencepiece; lone surrogates are no text."""
    atoms = ATOMS + ["<tool>", "→", "▁▁▁", "x<tool>", "  x"]
    return [t for t in strings(count, seed, atoms) if "\x00" not in t]


FORMS = {
    "llama": {},
    "no prefix": {"add_dummy_prefix": False},
    "extra spaces removed": {"remove_extra_whitespaces": True},
    "extra spaces removed, no prefix": {"remove_extra_whitespaces": True, "add_dummy_prefix": False},
    "no byte tokens": {"byte_fallback": False},
    "control symbols": {"control_symbols": ["<|im_end|>", "<|x|>"], "pad_id": 3},
    "user's symbols": {"user_defined_symbols": ["<tool>", "▁▁▁", "→", "▁▁x", "don't"]},
    "user's symbols, extra spaces removed": {"user_defined_symbols": ["<tool>", "ROMEO:"], "remove_extra_whitespaces": True},
    "no split": {"split_by_whitespace": False, "split_by_unicode_script": False, "split_by_number": False},
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_equal_sentencepiece(form, tmp_path):
    reference = train(tmp_path, **FORMS[form])
    texts = plain_strings(2500)
    theirs = reference.encode(texts)
    for model in (tmp_path, tmp_path / "form.gguf"):
        ours = ask(model, [{"text": t, "parse_special": False} for t in texts])
        wrong = [(t, a, b) for t, a, b in zip(texts, ours, theirs) if a != b]
        assert not wrong, f"{len(wrong)} of {len(texts)} differ, e.g. {wrong[0]}"
        if model == tmp_path:
            ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    known = [(t, i) for t, i in zip(texts, theirs) if reference.unk_id() not in i and "▁" not in t]
    back = ask(tmp_path, [{"ids": ids} for _, ids in known])
    assert back == [reference.decode(ids) for _, ids in known]
    if "removed" not in form:
        assert back == [t for t, _ in known]
    assert len(known) > 1000 or form == "no byte tokens"


def test_bos_eos_and_what_the_files_say(tmp_path):
    reference = train(tmp_path)
    text = "The Work"
    plain = reference.encode(text)
    with_special = [{"text": text, "add_special": True}]
    assert ask(tmp_path, with_special) == [[1, *plain]]
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"add_bos_token": False, "add_eos_token": True, "eos_token": {"content": "</s>"}}))
    assert ask(tmp_path, with_special) == [[*plain, 2]]
    config.write_text(json.dumps({"add_prefix_space": False}))
    bare = ask(tmp_path, [{"text": text}])[0]
    assert bare != plain and "".join(reference.id_to_piece(bare)) == "The▁Work"


@pytest.mark.parametrize("legacy", [True, False])
def test_added_tokens(legacy, tmp_path):
    """Between added tokens, each text is SentencePiece's; legacy tokenizers give each of them a prefix."""
    reference = train(tmp_path)
    n = len(reference)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<tool>": n, "<|im_end|>": n + 1, "<pad>": n + 2}))
    decoder = {str(n): {"content": "<tool>", "special": False}, str(n + 3): {"content": "<strip>", "lstrip": True,
               "rstrip": True, "special": True}, "2": {"content": "</s>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy, "added_tokens_decoder": decoder}))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": n + 8}))
    added = {"<tool>": n, "<|im_end|>": n + 1, "<pad>": n + 2, "<strip>": n + 3, "</s>": 2}
    rng = random.Random(1)
    words = ["The", " the", "Work", "  of", "x y", ".", "é"]
    without = spm.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"), add_bos=False)
    unprefixed = lambda t: without.encode("\n" + t)[len(without.encode("\n")):]
    requests, wanted = [], []
    for _ in range(1500):
        parts = [rng.choice([*added, *words, *words]) for _ in range(rng.randrange(1, 9))]
        requests.append({"text": "".join(parts), "parse_special": True})
        runs, ids = [""], []
        for p in parts:
            if p in added:
                runs += [p, ""]
            else:
                runs[-1] += p
        for i, run in enumerate(runs):
            if run in added:
                ids.append(added[run])
                continue
            if i > 0 and runs[i - 1] == "<strip>":
                run = run.lstrip()
            if i + 1 < len(runs) and runs[i + 1] == "<strip>":
                run = run.rstrip()
            if run:
                ids += without.encode(run) if legacy or i == 0 else unprefixed(run)
        wanted.append(ids)
    for request, a, b in zip(requests, ask(tmp_path, requests), wanted):
        assert a == b, request
    ask(tmp_path, [{"write": str(tmp_path / "added.gguf")}])
    assert ask(tmp_path / "added.gguf", requests) == wanted


def refusal(folder):
    run = subprocess.run([str(PROGRAM), str(folder)], input=b"", capture_output=True, timeout=60)
    assert run.returncode != 0
    return run.stderr.decode()


def test_what_merging_by_score_cannot_do_is_refused_by_name(tmp_path):
    cases = {"of type unigram": {"model_type": "unigram", "vocab_size": 400}, "of type char": {"model_type": "char"},
             "of type word": {"model_type": "word", "byte_fallback": False},
             "normaliser 'nmt_nfkc'": {"normalization_rule_name": "nmt_nfkc"},
             "normaliser 'nfkc'": {"normalization_rule_name": "nfkc"},
             "treat_whitespace_as_suffix": {"treat_whitespace_as_suffix": True}}
    for i, (message, options) in enumerate(cases.items()):
        folder = tmp_path / str(i)
        folder.mkdir()
        train(folder, **options)
        assert message in refusal(folder), refusal(folder)


def test_damaged_models_are_refused_or_read(tmp_path):
    train(tmp_path, vocab_size=400)
    model = tmp_path / "tokenizer.model"
    whole = model.read_bytes()
    rng = random.Random(4)
    for cut in [1, 2, 3, 50, len(whole) // 2, len(whole) - 1]:
        model.write_bytes(whole[:cut])
        run = subprocess.run([str(PROGRAM), str(tmp_path)], input=b'{"text": "a b"}\n', capture_output=True, timeout=60)
        assert run.returncode in (0, 1) and (run.returncode == 0 or b"tokenizer.model" in run.stderr), run.stderr
    for _ in range(60):
        bad = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        model.write_bytes(bad)
        run = subprocess.run([str(PROGRAM), str(tmp_path)], input=b'{"text": "a b"}\n', capture_output=True, timeout=60)
        assert run.returncode in (0, 1), run.stderr


def test_scores_of_the_shared_llama_vocabulary(tmp_path):
    """The pieces of Llama's GGUF, written as a tokenizer.model, give the ids of llama.cpp's vectors."""
    gguf = pytest.importorskip("gguf")
    shared = Path(os.environ.get("WF_SHARED", "../shared")) / "tokenizers"
    path = shared / "ggml-vocab-llama-spm.gguf"
    if not path.exists():
        pytest.skip(f"no {path}")
    fields = gguf.GGUFReader(path).fields
    texts = [bytes(fields["tokenizer.ggml.tokens"].parts[i]) for i in fields["tokenizer.ggml.tokens"].data]
    number = lambda key, i: fields[key].parts[fields[key].data[i]][0]

    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def block(tag, data):
        return bytes([tag << 3 | 2]) + varint(len(data)) + data

    model = b""
    for i, text in enumerate(texts):
        score, kind = float(number("tokenizer.ggml.scores", i)), int(number("tokenizer.ggml.token_type", i))
        model += block(1, block(1, text) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))
    model += block(2, b"\x18\x02\x98\x02\x01") + block(3, b"\x20\x00")
    (tmp_path / "tokenizer.model").write_bytes(model)
    cases = (shared / "ggml-vocab-llama-spm.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    wanted = [[int(i) for i in line.split()] for line in (shared / "ggml-vocab-llama-spm.gguf.out").read_text().split("\n")]
    ours = ask(tmp_path, [{"text": t, "parse_special": False} for t in cases])
    assert len(ours) > 40
    assert ours == wanted[:len(ours)]
    reference = spm.SentencePieceProcessor(model_proto=model)
    more = plain_strings(2000)
    assert ask(tmp_path, [{"text": t} for t in more]) == reference.encode(more)


LLAMA = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize("family", ["GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer"])
def test_vocab_json_and_merges_txt(family, tmp_path):
    reference = Tokenizer(models.BPE())
    if family.startswith("Qwen"):
        reference.normalizer = normalizers.NFC()
        reference.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(tokenizers.Regex(LLAMA), "isolated"),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    corpus = [(SOURCE / "LICENSE").read_text(), "# ## ### C# #! naïve café"] * 3
    reference.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|endoftext|>"] if family.startswith("GPT2") else []))
    reference.model.save(str(tmp_path))
    if family.startswith("Qwen"):  # its control tokens are not in vocab.json
        reference.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
        decoder = {str(reference.token_to_id("<|endoftext|>")): {"content": "<|endoftext|>", "special": True}}
        config = {"tokenizer_class": family, "eos_token": "<|endoftext|>", "added_tokens_decoder": decoder}
    else:
        config = {"tokenizer_class": family}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert any(m.startswith("#") for m in (tmp_path / "merges.txt").read_text().split("\n")[1:])
    texts = strings(2500, atoms=ATOMS + ["<|endoftext|>", "###", "e\u0301"])
    compare(tmp_path, reference, texts, add_special=False)
    ask(tmp_path, [{"write": str(tmp_path / "form.gguf")}])
    compare(tmp_path / "form.gguf", reference, texts[:500], add_special=False)


def test_vocab_json_of_an_unknown_family(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert "no tokenizer_class" in refusal(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    assert "'RobertaTokenizer'" in refusal(tmp_path) and "save_pretrained" in refusal(tmp_path)

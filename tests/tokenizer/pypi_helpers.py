# SPDX-License-Identifier: Apache-2.0
"""For comparisons with PyPI tokenizers: strings that find differences, our program, and what it must agree with."""
import json
import os
import random
import subprocess
import unicodedata
from pathlib import Path

SOURCE = Path(os.environ["WF_SOURCE"])
PROGRAM = Path(os.environ["WF_BIN"]) / "wf_tokenize"

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
    """`reference` is a tokenizers.Tokenizer; returns its ids."""
    ours = ask(folder, [{"text": t, "add_special": add_special, "parse_special": True} for t in texts])
    theirs = [e.ids for e in reference.encode_batch(texts, add_special_tokens=add_special)]
    if add_special:
        # Where the text itself begins with BOS they have two.
        first = reference.encode("", add_special_tokens=True).ids[:1]
        theirs = [t[1:] if first and t[:2] == first * 2 else t for t in theirs]
    wrong = [(t, a, b) for t, a, b in zip(texts, ours, theirs) if a != b]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, e.g. {wrong[0]}"
    return theirs

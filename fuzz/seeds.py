#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small seeds for the fuzz harnesses, fuzz/seeds.py OUT makes OUT/NAME/ for each fuzz/NAME.cc: a file for each
value type, tensor type and dtype, texts of several scripts, and templates with each construct. Standard library
only; nothing here is kept in the repository."""

import json
import os
import struct
import sys


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(t, count=1):
    if t == 8:
        return string("text") * count
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    return b"".join((i % 2).to_bytes(sizes[t], "little") for i in range(count))


def gguf(values, tensors=(), alignment=32, version=3):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values)) + b"".join(values)
    offset = 0
    for name, ne, t, size in tensors:
        out += string(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne)
        out += struct.pack("<IQ", t, offset)
        offset += -(-size // alignment) * alignment
    out += bytes(-len(out) % alignment)
    return out + bytes(offset)


def gguf_seeds():
    yield "empty", gguf([])
    yield "v2", gguf([], version=2)
    for t in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]:
        yield f"value-{t}", gguf([string("k") + struct.pack("<I", t) + value(t)])
        yield f"array-{t}", gguf([string("k") + struct.pack("<IIQ", 9, t, 3) + value(t, 3)])
    align = string("general.alignment") + struct.pack("<II", 4, 8)
    yield "alignment", gguf([align], [("a", [3], 0, 12), ("b", [1], 0, 4)], 8)
    yield "scalar", gguf([], [("s", [], 0, 4)])
    blocks = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 24: (1, 1), 30: (1, 2), 34: (256, 54)}
    blocks |= {35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18)}
    for t, (n, size) in blocks.items():
        yield f"tensor-{t}", gguf([], [("a", [n, 2, 1], t, 2 * size), ("b", [n], t, size)])
    yield "tensor-36", gguf([], [("a", [64, 2], 36, 64), ("b", [128, 1, 1, 2], 36, 96)])
    yield "tensor-135", gguf([], [("a", [64, 2], 135, 40)])


def safetensors_seeds():
    yield "empty", {}, 0
    yield "metadata", {"__metadata__": {"format": "pt"}}, 0
    sizes = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4}
    sizes |= {"I64": 8, "U64": 8, "F64": 8, "F8_E4M3": 1}
    for name, n in sizes.items():
        a = {"dtype": name, "shape": [2, 1], "data_offsets": [0, 2 * n]}
        b = {"dtype": name, "shape": [], "data_offsets": [2 * n, 3 * n]}
        c = {"dtype": name, "shape": [0, 5], "data_offsets": [3 * n, 3 * n]}
        yield name, {"a": a, "b": b, "c": c}, 3 * n


def tokenizer_seeds():
    yield "empty", b""
    yield "ascii", b"To be, or not to be: that is the question.\n\n  \tWhether 'tis 12345 nobler...\r\n"
    yield "scripts", "Grüße, Ἰλιάδα, שלום, नमस्ते, 日本語テキスト, 한국어, e\u0301 \U0001f469\u200d\U0001f4bb\u00a0\u3000".encode()
    yield "specials", b"<|endoftext|><|begin_of_text|><s></s><|im_start|>user\nhi<|im_end|> <|not_special|>"
    yield "not-utf8", b"ab\xff\xfe\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80 \xe2\x82"
    yield "control", bytes(range(32)) + b"\x7f"
    yield "long", b"a" * 4096 + b" " * 4096


CHATML = """{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + (m.content or '') | trim + '<|im_end|>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
TEMPLATES = {
    "empty": "",
    "text": "no tags { % } #",
    "chatml": CHATML,
    "loop": "{% for k, v in d.items() %}{{ loop.index }}{{ loop.last }}{{ k }}={{ v }}{% else %}none{% endfor %}",
    "loop-if": "{% for i in range(9) if i is odd %}{{ loop.previtem }}{% if i == 5 %}{% break %}{% endif %}{% endfor %}",
    "macro": "{% macro f(a, b=2) %}{{ a }}-{{ b }}{{ caller() if caller }}{% endmacro %}{% call f(1, b=n) %}x{% endcall %}",
    "namespace": "{% set ns = namespace(i=0) %}{% for x in l %}{% set ns.i = ns.i + x %}{% endfor %}{{ ns.i }}",
    "set": "{% set t %}{{ s | upper }}{% endset %}{% set a, b = 1, 2 %}{{ t ~ a ~ b }}",
    "filters": "{{ l | sort | join(', ') }}{{ d | tojson(indent=2) }}{{ messages | map(attribute='role') | list | length }}",
    "methods": "{{ s.split(',')[0].strip().startswith('H') }}{{ s.replace('o', '0')[::-1] }}{{ '%s %d' | format(s, n) }}",
    "tests": "{{ s is string and l is iterable and missing is not defined and d is mapping and n is number }}",
    "operators": "{{ (1 + 2) * 3 // 2 % 4 ** 2 - -n }}{{ 'a' in s or not 1 < 2 <= 3 }}{{ 1 if f else [1, (2,), {'k': none}] }}",
    "raise": "{% if messages | length > 3 %}{{ raise_exception('too many') }}{% endif %}",
    "comment": "{#- gone -#} {% raw %}{{ kept }}{% endraw %} {%+ if true -%} x {% endif +%}",
    "time": "{{ strftime_now('%d %b %Y') }}",
    "generation": "{% generation %}{{ messages[-1].content }}{% endgeneration %}{{ messages[1:] | tojson }}",
    "unclosed": "{% for x in l %}{{ x",
}


def template_seeds():
    for name, text in TEMPLATES.items():
        yield name, text.encode()
    model = os.path.join(os.path.dirname(__file__), "..", "models", "bard", "tokenizer_config.json")
    if os.path.exists(model):
        with open(model, encoding="utf-8") as f:
            template = json.load(f).get("chat_template")
        if template:
            yield "sample-model", template.encode()


def main(out):
    for folder, seeds in {"gguf": (), "safetensors": (), "tokenizer": tokenizer_seeds(), "chat_template": template_seeds()}.items():
        os.makedirs(os.path.join(out, folder), exist_ok=True)
        for name, data in seeds:
            with open(os.path.join(out, folder, name), "wb") as f:
                f.write(data)
    for name, data in gguf_seeds():
        with open(os.path.join(out, "gguf", name), "wb") as f:
            f.write(data)
    for name, header, size in safetensors_seeds():
        text = json.dumps(header).encode()
        with open(os.path.join(out, "safetensors", name), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + bytes(size))


if __name__ == "__main__":
    main(sys.argv[1])

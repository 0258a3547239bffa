#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small seeds for the fuzz harnesses, fuzz/seeds.py OUT makes OUT/NAME/ for each fuzz/NAME.cc: a file for each
value type, tensor type and dtype, texts of several scripts, and templates with each construct. Standard library
only; nothing here is kept in the repository."""

import io
import json
import os
import struct
import sys
import zipfile


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


# --- PyTorch: the pickles that torch.save writes (protocol 2) around the storages 0 and 1 of fuzz/pickle.cc ---


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def tensor(storage, elements, shape, strides, key="0", offset=0):
    def tuple_of(numbers):
        return b"(" + b"".join(b"K" + bytes([n]) for n in numbers) + b"t"

    out = b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\n" + storage.encode() + b"\n"
    out += text(key) + text("cpu") + b"K" + bytes([elements]) + b"tQK" + bytes([offset])
    return out + tuple_of(shape) + tuple_of(strides) + b"\x89ccollections\nOrderedDict\n)RtR"


def state_dict(items):
    return b"ccollections\nOrderedDict\n)R(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def pickle_seeds():
    view = tensor("FloatStorage", 48, [2, 3], [3, 1])
    yield "empty", b"\x80\x02}."
    sizes = {"Float": 4, "Half": 2, "BFloat16": 2, "Double": 8, "Int": 4, "Long": 8, "Short": 2, "Char": 1, "Byte": 1}
    for name, n in (sizes | {"Bool": 1}).items():
        elements = 192 // n
        yield name, b"\x80\x02" + state_dict({"w": tensor(name + "Storage", elements, [2, 3], [3, 1])}) + b"."
    views = {"scalar": ([], []), "transposed": ([3, 2], [1, 3]), "expanded": ([9, 2], [0, 1]), "empty": ([0], [1])}
    for name, (shape, strides) in views.items():
        yield "view-" + name, b"\x80\x02" + state_dict({"w": tensor("FloatStorage", 48, shape, strides)}) + b"."
    tied = {"a": view, "b": view, "c": tensor("ByteStorage", 8, [8], [1], "1")}
    yield "tied", b"\x80\x02" + state_dict(tied) + b"."
    yield "nested", b"\x80\x02}(" + text("state_dict") + state_dict({"w": view}) + text("epoch") + b"K\x03u."
    yield "metadata", b"\x80\x02" + state_dict({"w": view}) + b"}" + text("_metadata") + state_dict({}) + b"sb."
    yield "parameter", b"\x80\x02}(" + text("p") + b"ctorch._utils\n_rebuild_parameter\n(" + view + b"\x88}tRu."
    memo = b"\x80\x04\x95" + struct.pack("<Q", 30) + b"}\x94(\x8c\x01k\x94]\x94(K\x01\x8a\x01\xffG"
    yield "protocol-4", memo + struct.pack(">d", 1.5) + b"M\x01\x02J\xfe\xff\xff\xffNe\x8c\x01l\x94h\x01u."
    yield "self", b"\x80\x02}q\x00" + text("model") + b"h\x00s."
    yield "evil", b"\x80\x02cos\nsystem\n(" + text("id") + b"tR."
    for name, extra in {"zip": {}, "zip-script": {"a/code/x.py": b"1"}, "zip-order": {"a/byteorder": b"little"}}.items():
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as z:
            entries = {"a/data.pkl": b"\x80\x02" + state_dict({"w": view}) + b".", "a/data/0": bytes(192)}
            for entry, content in (entries | extra).items():
                with z.open(zipfile.ZipInfo(entry), "w", force_zip64=name == "zip-order") as f:
                    f.write(content)
        yield name, data.getvalue()


def sgl_bin_seeds():
    def one(name, dtype, shape, data, scale=None):
        out = struct.pack("<I", len(name)) + name.encode() + struct.pack("<II", dtype, len(shape))
        out += b"".join(struct.pack("<I", d) for d in shape) + struct.pack("<I", scale is not None)
        return out + (b"" if scale is None else struct.pack("<f", scale)) + struct.pack("<Q", len(data)) + data

    def file(config, tensors):
        out = b"SGLBITNT" + struct.pack("<II", 1, len(config)) + config + struct.pack("<I", len(tensors))
        return out + b"".join(tensors)

    yield "empty", file(b"", [])
    packed = one("q", 0, [2, 32], bytes(64), 0.5)
    floats = [one(n, t, [2, 1], bytes(2 * size)) for n, t, size in [("a", 1, 4), ("b", 2, 2), ("c", 3, 2)]]
    yield "all", file(b'{"model_type":"bitnet"}', [packed, *floats])
    yield "scalar", file(b"{}", [one("s", 1, [], bytes(4)), one("e", 1, [0, 3], b"")])


def tokenizer_seeds():
    yield "empty", b""
    yield "ascii", b"To be, or not to be: that is the question.\n\n  \tWhether 'tis 12345 nobler...\r\n"
    yield "scripts", "Grüße, Ἰλιάδα, שלום, नमस्ते, 日本語テキスト, 한국어, e\u0301 \U0001f469\u200d\U0001f4bb\u00a0\u3000".encode()
    yield "specials", b"<|endoftext|><|begin_of_text|><s></s><|im_start|>user\nhi<|im_end|> <|not_special|>"
    yield "not-utf8", b"ab\xff\xfe\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80 \xe2\x82"
    yield "control", bytes(range(32)) + b"\x7f"
    yield "long", b"a" * 4096 + b" " * 4096


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def sentencepiece_seeds():
    def block(field, data):
        return varint(field << 3 | 2) + varint(len(data)) + data

    def number(field, n):
        return varint(field << 3) + varint(n)

    def piece(text, score, kind):
        return block(1, block(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, kind))

    special = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("<tool>", 0, 4) + piece("x", 0, 5)
    bytes_ = b"".join(piece(f"<0x{b:02X}>", 0, 6) for b in range(256))
    words = ["\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "\u00e9"]
    pieces = special + b"".join(piece(w, -float(i), 1) for i, w in enumerate(words))
    bpe = block(2, number(3, 2) + number(40, 0) + number(41, 1) + number(42, 2) + number(43, (1 << 64) - 1))
    keep = block(3, block(1, b"identity") + number(3, 1) + number(4, 0) + number(5, 1))
    yield "empty", b""
    yield "bpe", pieces + bpe + keep
    yield "bytes", special + bytes_ + bpe + keep
    yield "defaults", pieces + bpe
    yield "no-prefix", pieces + bpe + block(3, number(3, 0) + number(4, 1))
    yield "unigram", pieces + block(2, number(3, 1))
    yield "charsmap", pieces + bpe + block(3, block(1, b"nmt_nfkc") + block(2, b"map"))
    yield "unknown-fields", number(99, 1) + block(4, b"test") + varint(98 << 3 | 1) + bytes(8) + pieces + bpe
    yield "ranks", b"IQ== 0\nIg== 1\n"


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


SCHEMAS = {
    "any": ("true", '{"a":[1,-2.5e3,"\\ud83d\\ude00",null]}'),
    "object": ({"type": "object", "properties": {"a": {"type": "integer", "minimum": -5, "maximum": 120},
                                                 "b": {"type": "string", "minLength": 1, "maxLength": 9}},
                "required": ["a"], "additionalProperties": {"type": "boolean"}}, '{"a": 7,"b":"x","c":true}'),
    "recursive": ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"anyOf": [
        {"$ref": "#/$defs/n"}, {"const": None}]}, "minItems": 1, "maxItems": 3}}}, "[[null],null]"),
    "enum": ({"enum": ["a", "ab", 1, 1.5, {"x": [True]}]}, '{"x":[true]}'),
    "one-of": ({"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
                          {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"]}]}, '{"k":"b"}'),
    "pattern": ({"type": "string", "pattern": "^(a|[^b-d\\s\"]){2,3}\\.x+?$", "maxLength": 12}, '"aé.xx"'),
    "format": ({"type": "string", "format": "date-time"}, '"2024-02-29T00:00:00Z"'),
    "number": ({"type": ["number", "null"], "exclusiveMinimum": -0.25, "maximum": 1e3}, "0.125"),
    "tuple": ({"prefixItems": [{"type": "null"}], "items": False}, "[null]"),
    "refused": ({"properties": {"a": {"patternProperties": {}}}}, ""),
    "circular": ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, ""),
}


def schema_seeds():
    for name, (schema, text) in SCHEMAS.items():
        source = schema if isinstance(schema, str) else json.dumps(schema)
        yield name, f"{source}\0{text}".encode()


def main(out):
    folders = {"gguf": (), "safetensors": (), "tokenizer": tokenizer_seeds(), "chat_template": template_seeds(),
               "json_schema": schema_seeds()}
    folders |= {"pickle": pickle_seeds(), "sgl_bin": sgl_bin_seeds(), "sentencepiece": sentencepiece_seeds()}
    for folder, seeds in folders.items():
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

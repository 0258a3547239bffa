# SPDX-License-Identifier: Apache-2.0
"""The house rules that a grep can hold: includes point down, each dependency stays in its room, every file
begins with its licence, and no file grows beyond one idea. Not here: what headers cost (test_budget.py)."""

import os
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("WF_SOURCE", Path(__file__).resolve().parents[2]))
INCLUDE = ROOT / "include" / "wf"

# Every include of another room points strictly down this list; rooms of one line do not see each other. The
# design's rule, with an order inside three of its layers: tensor types (quant) are under the files that name them,
# the KV pool (cache) under the model that fills it, and what loads a model (convert) over the model.
LAYERS = [
    {"base"},
    {"simd", "quant"},
    {"formats"},
    {"tensor", "kernels", "tokenizer"},
    {"cache"},
    {"model"},
    {"convert"},
    {"decode"},
    {"engine"},
    {"tools"},
    {"server"},
]
LAYER = {room: n for n, rooms in enumerate(LAYERS) for room in rooms}
# Pairs of rooms whose upper one may use no more than this of the lower one; None: nothing of it.
NARROW = {
    ("convert", "model"): {
        "wf/model/config.h", "wf/model/diffusion.h", "wf/model/model.h", "wf/model/registry.h", "wf/model/weights.h",
    },
    ("convert", "kernels"): None,
    ("convert", "cache"): None,
    ("kernels", "formats"): None,
    ("tokenizer", "simd"): None,
    ("decode", "convert"): None,
    ("server", "tools"): {"tools/decode_args.h"},  # flags that both have
}

AIM, LIMIT = 500, 600
SOURCES = ["include", "src", "server", "tools", "bench", "tests", "fuzz", "cmake", "examples", "scripts", "docs"]


def files(*suffixes, under=SOURCES):
    for folder in under:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.name.endswith(suffixes) and "__pycache__" not in path.parts:
                yield path


def name(path):
    return path.relative_to(ROOT).as_posix()


def room_of(path):
    """The room of a file, or None for what may see everything (the umbrella, src, bench, tests, fuzz)."""
    parts = path.relative_to(ROOT).parts
    if parts[:2] == ("include", "wf"):
        return parts[2] if len(parts) > 3 else None
    return parts[0] if parts[0] in ("server", "tools") else None


def code(path):
    """Lines with their numbers, comments blanked: words in comments are not dependencies."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), path.read_text(encoding="utf-8"), flags=re.S)
    for number, line in enumerate(text.split("\n"), 1):
        yield number, re.sub(r"(?<![:\"])//.*", "", line)


def includes(path):
    for number, line in code(path):
        m = re.match(r"\s*#\s*(?:include|define\s+WF_TARGET_INCLUDE)\s*[<\"]([^>\"]+)[>\"]", line)
        if m:
            yield number, m.group(1)


def test_every_room_has_a_layer():
    rooms = {p.name for p in INCLUDE.iterdir() if p.is_dir()}
    assert rooms <= set(LAYER), f"rooms without a layer: {sorted(rooms - set(LAYER))}"


def test_includes_point_down_or_stay_in_their_room():
    bad, seen = [], 0
    for path in files(".h", ".cc", ".def"):
        room = room_of(path)
        for number, target in includes(path):
            if not target.startswith(("wf/", "server/", "tools/")):
                continue
            parts = target.split("/")
            if target.startswith("wf/") and not (ROOT / "include" / target).is_file():
                bad.append(f"{name(path)}:{number}: no such header: {target}")
                continue
            if room is None:
                continue
            seen += 1
            if len(parts) < 3 and parts[0] == "wf":
                if target != "wf/version.h" and room not in ("server", "tools"):
                    bad.append(f"{name(path)}:{number}: {room} includes the umbrella {target}")
                continue
            other = parts[1] if parts[0] == "wf" else parts[0]
            if other == room:
                continue
            if LAYER[other] < LAYER[room] and target in (NARROW.get((room, other), {target}) or ()):
                continue
            bad.append(f"{name(path)}:{number}: {room} (layer {LAYER[room]}) includes {target} (layer {LAYER[other]})")
    assert seen > 100, "the test reads the tree"
    assert not bad, "\n".join(bad)


# What is compiled once in wf::model, the only library that links Boost, PCRE2 and utf8proc.
MODEL_ROOMS = ("formats/safetensors", "tokenizer/", "cache/", "model/", "convert/", "decode/", "engine/")
# dependency: which includes are it, and which files may have them. Tests, benchmarks and fuzzers may have all.
FENCES = {
    "Highway": (r"^hwy/", lambda p: p.startswith("include/wf/simd/") or p.endswith("-inl.h")),
    "Eigen": (r"^(unsupported/)?Eigen/", lambda p: p == "include/wf/kernels/lrc_eigen.h"),
    "Beast": (r"^boost/beast|^boost/asio", lambda p: p.startswith("server/http")),
    "Boost": (
        r"^boost/",
        lambda p: p.startswith(("server/", "tools/"))
        or (p.endswith("-impl.h") and p.startswith(tuple(f"include/wf/{r}" for r in MODEL_ROOMS))),
    ),
    "PCRE2": (r"^pcre2", lambda p: p == "include/wf/tokenizer/regex-impl.h"),
    "utf8proc": (r"^utf8proc", lambda p: p.startswith("include/wf/tokenizer/") and p.endswith("-impl.h")),
    "CLI11": (r"^CLI/", lambda p: p.startswith(("server/", "tools/"))),
}


@pytest.mark.parametrize("what", FENCES)
def test_a_dependency_stays_in_its_room(what):
    pattern, allowed = FENCES[what]
    bad = []
    for path in files(".h", ".cc", ".def", under=["include", "src", "server", "tools"]):
        for number, target in includes(path):
            if re.search(pattern, target) and not allowed(name(path)):
                bad.append(f"{name(path)}:{number}: {target}")
    assert not bad, "\n".join(bad)


def test_only_simd_and_kernel_bodies_mention_highway():
    bad = []
    for path in files(".h", ".cc", ".def", under=["include", "src", "server", "tools"]):
        if name(path).startswith("include/wf/simd/") or path.name.endswith("-inl.h"):
            continue
        bad += [f"{name(path)}:{n}: {line.strip()}" for n, line in code(path) if re.search(r"\bhwy\b|\bHWY_\w+", line)]
    assert not bad, "\n".join(bad)


def test_only_the_http_files_mention_beast():
    bad = []
    for path in files(".h", ".cc", under=["include", "src", "server", "tools"]):
        if name(path) in ("server/http.cc", "server/http_session.h"):
            continue
        bad += [f"{name(path)}:{n}: {line.strip()}" for n, line in code(path) if re.search(r"\bbeast\b", line)]
    assert not bad, "\n".join(bad)


def test_only_the_session_of_the_server_includes_its_private_header():
    users = [name(p) for p in files(".h", ".cc", under=["include", "src", "server", "tools"])
             if any(t == "server/http_session.h" for _, t in includes(p))]
    assert users == ["server/http.cc"]


def test_every_source_file_begins_with_its_licence():
    sources = [ROOT / "CMakeLists.txt", *files(".h", ".cc", ".def", ".py", ".cmake", ".sh", "CMakeLists.txt", ".cmake.in")]
    bad = []
    for path in sources:
        lines = path.read_text(encoding="utf-8").split("\n")
        first = lines[1] if lines[0].startswith("#!") else lines[0]
        if not re.fullmatch(r"(//|#) SPDX-License-Identifier: Apache-2\.0", first):
            bad.append(f"{name(path)}: begins with {first!r}")
    assert len(sources) > 100
    assert not bad, "\n".join(bad)


def test_no_file_is_longer_than_one_idea():
    long = []
    for path in files(".h", ".cc", ".def", ".py", ".cmake", "CMakeLists.txt"):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > AIM:
            long.append((lines, name(path)))
    if long:
        warnings.warn(f"above the aim of {AIM} lines: " + ", ".join(f"{n} ({k})" for k, n in sorted(long)), stacklevel=1)
    too_long = [f"{n}: {k} lines" for k, n in sorted(long) if k > LIMIT]
    assert not too_long, "\n".join(too_long)


def test_headers_say_what_they_are_for():
    bad = []
    for path in files(".h", under=["include", "server", "tools"]):
        if path.name.startswith("flip-") or path.name == "foreach_avx2_vnni.h":
            continue
        lines = path.read_text(encoding="utf-8").split("\n")
        if not (len(lines) > 2 and lines[1].startswith("// ") and len(lines[1]) > 10):
            bad.append(f"{name(path)}: the second line does not say what the file is for")
    assert not bad, "\n".join(bad)

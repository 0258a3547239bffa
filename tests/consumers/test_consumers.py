# SPDX-License-Identifier: Apache-2.0
"""wf as others use it: found as an installed package and added as a subdirectory, header-only, static, precompiled,
with the model library, and with all modes in one program. All give the scalar instance's results bit for bit."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("WF_SOURCE", HERE.parents[1]))
BUILD = Path(os.environ["WF_BIN"]).parent if "WF_BIN" in os.environ else None
MODELS = ROOT / "models" / "bard"
KERNEL_PROGRAMS = ["header_only", "static_v3", "precompiled", "mixed"]

pytestmark = [
    pytest.mark.skipif(BUILD is None, reason="WF_BIN names no build"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the modes differ on x86-64 only"),
]


def cache(name):
    m = re.search(rf"^{name}:[A-Z]+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), flags=re.M)
    return m.group(1) if m else ""


def run(*command, **kwargs):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False, **kwargs)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def configure(folder, *arguments):
    # The consumer's own flags: the compiler and the sanitizers of the library, nothing else.
    sanitize = cache("WF_SANITIZE")
    flags = [f"-DCMAKE_CXX_FLAGS=-fsanitize={sanitize} -fno-omit-frame-pointer"] if sanitize else []
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", HERE / "project", "-B", folder, *generator, f"-DCMAKE_CXX_COMPILER={cache('CMAKE_CXX_COMPILER')}",
        "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *flags, *arguments)


def hash_of(output):
    hashes = set(re.findall(r"hash ([0-9a-f]+)", output))
    assert len(hashes) == 1, output
    return hashes.pop()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    where = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", BUILD, "--prefix", where)
    return where


@pytest.fixture(scope="module")
def package(prefix, tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    configure(folder, "-DWF_CONSUME=package", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder, "--parallel", os.cpu_count())
    return folder


@pytest.fixture(scope="module")
def subdirectory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subdirectory")
    # wf::model is left out: its bodies take minutes and come from the installed package in the other fixture.
    configure(folder, "-DWF_CONSUME=subdirectory", f"-DWF_SOURCE={ROOT}")
    run("cmake", "--build", folder, "--parallel", os.cpu_count(), "--target", *KERNEL_PROGRAMS)
    return folder


def test_the_package_has_every_header_and_no_test(prefix):
    installed = {p.relative_to(prefix / "include").as_posix() for p in (prefix / "include").rglob("*") if p.is_file()}
    ours = {p.relative_to(ROOT / "include").as_posix() for p in (ROOT / "include").rglob("*") if p.suffix in (".h", ".def")}
    assert installed == ours


def test_the_package_names_no_folder_of_its_build(prefix):
    files = list(prefix.rglob("*.cmake"))
    assert files
    for file in files:
        text = file.read_text()
        assert str(BUILD) not in text and str(ROOT) not in text, file


@pytest.mark.parametrize("program", KERNEL_PROGRAMS)
def test_an_installed_package_gives_the_scalar_results(package, program):
    assert hash_of(run(package / program)) == hash_of(run(package / "precompiled"))


def test_an_installed_package_has_the_model_library(package):
    assert hash_of(run(package / "with_model", MODELS)) == hash_of(run(package / "precompiled"))


@pytest.mark.parametrize("program", KERNEL_PROGRAMS)
def test_a_subdirectory_gives_the_results_of_the_package(package, subdirectory, program):
    assert hash_of(run(subdirectory / program)) == hash_of(run(package / "precompiled"))


def test_a_subdirectory_brings_no_programs_tests_or_flags(subdirectory):
    values = (subdirectory / "CMakeCache.txt").read_text()
    for option in ("WF_BUILD_TESTS", "WF_BUILD_SERVER", "WF_BUILD_TOOLS", "WF_INSTALL", "WF_DEVELOPER"):
        assert re.search(rf"^{option}:BOOL=(OFF|)$", values, flags=re.M), option
    commands = (subdirectory / "compile_commands.json").read_text()
    ours = [line for line in commands.split("\n") if '"command"' in line and "one_main.cc" in line]
    assert ours
    assert all("-Wconversion" not in line and "-ffp-contract" not in line for line in ours)


def test_header_only_programs_link_no_library_of_ours_and_not_highway(package):
    for program in ("header_only", "static_v3"):
        libraries = run("ldd", package / program)
        assert "hwy" not in libraries and "wf" not in libraries.replace(str(package), "")

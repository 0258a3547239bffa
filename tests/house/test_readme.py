# SPDX-License-Identifier: Apache-2.0
"""Every command of the README is run, here or by .ci/run."""
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(os.environ["WF_SOURCE"])
BIN = pathlib.Path(os.environ["WF_BIN"])
# .ci/run runs the scripts, and scripts/test the plain build: both are checked below.
ELSEWHERE = {"scripts/demo", "scripts/test", "cmake --preset release && cmake --build --preset release"}


def commands():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def here(command, folder):
    """The command with this build's programs and its files in `folder`."""
    return command.replace("build/release/bin", str(BIN)).replace("build/bard.gguf", str(folder / "bard.gguf"))


def test_the_scripts_run_the_rest():
    ci = (ROOT / ".ci/run").read_text()
    assert "scripts/test" in ci and "scripts/demo --once" in ci
    test = (ROOT / "scripts/test").read_text()
    assert "cmake --preset release" in test and "cmake --build --preset release" in test
    assert ELSEWHERE <= set(commands())


def test_every_other_command_works(tmp_path):
    todo = [c for c in commands() if c not in ELSEWHERE]
    assert len(todo) >= 7
    server = None
    try:
        for command in todo:
            if "wf-server" in command:
                line = here(command, tmp_path).replace("--port 30000", "--port 0")
                server = subprocess.Popen(shlex.split(line), cwd=ROOT, stderr=subprocess.PIPE, text=True)
                url = None
                for text in server.stderr:
                    found = re.search(r"listening on (http://\S+)", text)
                    url = found.group(1) if found else url
                    if "model ready" in text:
                        break
                assert url, "the server printed no address"
            else:
                line = here(command, tmp_path)
                if server is not None:
                    line = line.replace("http://127.0.0.1:30000", url)
                done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, f"{command}\n{done.stderr}"
                assert done.stdout.strip(), command
                if "curl" in command:
                    assert "Good morrow" in done.stdout or '"content":"' in done.stdout
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))

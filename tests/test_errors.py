"""What a command says where the user, not the program, is to act."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from attn_mm.errors import Terminated, UserError, one_line, readable, reports_user_errors, resumable

NO_MEMORY = "out of memory: use smaller batches or images, or a machine with more"
FULL = "a.log can't be written (No space): free some space"


@pytest.fixture
def whole_lines():
    """Here lines are cut as users see them."""


def test_mistakes_and_interruptions_are_one_line_each(capsys):
    @reports_user_errors
    def main(error):
        raise error

    @reports_user_errors
    def main_that_goes_on():
        with resumable():
            raise KeyboardInterrupt

    goes_on = "interrupted: repeat the command to continue where it stopped"
    for run, status, line in (
        (lambda: main(UserError("no such file")), 2, "error: no such file"),
        (lambda: main(KeyboardInterrupt()), 130, "interrupted"),
        (main_that_goes_on, 130, goes_on),
        (lambda: main(MemoryError()), 2, f"error: {NO_MEMORY}"),
        (
            lambda: main(RuntimeError("x: can't allocate memory: 9 bytes")),
            2,
            f"error: {NO_MEMORY}",
        ),
        (lambda: main(OSError(errno.ENOSPC, "No space", "a.log")), 2, f"error: {FULL}"),
        (lambda: main(Terminated("saved")), 143, "terminated: saved"),
        (lambda: main(UserError("a\nb\x1b[0m")), 2, "error: a b\\x1b[0m"),
    ):
        with pytest.raises(SystemExit) as end:
            run()
        assert end.value.code == status
        assert capsys.readouterr().err == line + "\n"
    with pytest.raises(ZeroDivisionError):
        main(ZeroDivisionError())


def test_sigterm_ends_a_command(capsys):
    @reports_user_errors
    def main():
        with resumable():
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        main()
    assert capsys.readouterr().err == "terminated: repeat the command to continue where it stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_of_a_long_message_beginning_and_end_stay():
    line = one_line("what is wrong: " + "x" * 500 + ": do this")
    assert line.startswith("what is wrong: x") and line.endswith("x: do this") and len(line) == 192
    assert one_line("x" * 192) == "x" * 192


def test_of_a_long_message_paths_lose_their_middle():
    path, short = f"/data/{'deep/' * 60}coco.json", "/data/images/000000000001.jpg"
    assert one_line(f"{path}: images[3] is wrong") != f"{path}: images[3] is wrong"
    line = one_line(f"{path}: images[3] and {short} are the same: {'what to do ' * 7}")
    assert line.startswith("/data/deep/") and "...deep/" in line and "/coco.json: images[3] and " in line
    assert short in line and line.endswith("what to do") and len(line) <= 192
    both = one_line(f"{path} is not {path}: {'what to do ' * 9}")
    assert both.count("coco.json") == 2 and both.endswith("what to do") and len(both) <= 192
    assert one_line(f"{'/' * 150} {'x' * 40}") == f"{'/' * 150} {'x' * 40}"
    assert len(one_line("x/" * 300)) == 192


def test_names_that_the_locale_lacks():
    assert readable("lög".encode().decode("ascii", "surrogateescape")) == "lög"
    assert readable("lög\udcc3") == "lög\ufffd" and readable("\ud800ö") == "?ö"
    assert one_line("w\udcc3\udcb6rk is wrong") == "wörk is wrong"


def test_control_characters_of_a_long_path():
    assert "\x1b" not in one_line("/" + "a\x1b" * 99)


def test_a_deleted_folder_is_named(tmp_path, repo):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os, sys; os.rmdir({str(folder)!r}); sys.path.insert(0, {str(repo)!r}); import attn_mm"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the current folder no longer exists: change to another one\n"


def test_a_reader_that_has_gone_ends_a_command_in_silence():
    code = (
        "from attn_mm.errors import reports_user_errors\n"
        "reports_user_errors(lambda: [print('x' * 999) for _ in range(999)])()"
    )
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.stdout.close()
    assert command.stderr.read() == b"" and command.wait() == 141
    command.stderr.close()


def test_another_broken_pipe_is_a_bug(monkeypatch):
    @reports_user_errors
    def main():
        raise BrokenPipeError

    reading, writing = os.pipe()
    with open(writing, "w") as output, pytest.raises(BrokenPipeError):
        monkeypatch.setattr(sys, "stdout", output)
        main()
    os.close(reading)


def test_streams_that_are_closed_or_full_leave_the_status_alone(monkeypatch):
    @reports_user_errors
    def command(fails):
        if fails:
            raise UserError("no")

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", None)
    command(False)
    for stream in (None, Full()):
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as stopped:
            command(True)
        assert stopped.value.code == 2

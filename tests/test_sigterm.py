"""SIGTERM is handled by the process that asked for it; its children leave it to their parent."""

import multiprocessing
import os
import signal
import subprocess
import time

import pytest

from attn_mm.sigterm import handling_sigterm

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "sigwaitinfo"), reason="the sender of a signal is unknown"
)
FORK = multiprocessing.get_context("fork")


def wait(ready):
    ready.set()
    time.sleep(60)


@pytest.fixture
def child():
    """A process that was forked where SIGTERM is only noted."""
    received = []
    with handling_sigterm(lambda *_: received.append(os.getpid())):
        ready = FORK.Event()
        process = FORK.Process(target=wait, args=(ready,))
        process.start()
        assert ready.wait(30)
        yield process
        assert not received
    process.kill()
    process.join()


def test_its_parent_ends_it(child):
    child.terminate()
    child.join(30)
    assert child.exitcode == 0


def test_it_ends_as_soon_as_it_is_there():
    with handling_sigterm(lambda *_: None):
        for _ in range(8):
            process = FORK.Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join(10)
            assert process.exitcode == 0
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_nobody_else_does(child):
    subprocess.run(["kill", "-TERM", str(child.pid)], check=True)
    child.join(0.5)
    assert child.is_alive()


def test_elsewhere_it_ends_as_any_process():
    process = FORK.Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(30)
    assert process.exitcode == -signal.SIGTERM

"""Functions in the guarded child: what comes back, what each way to die becomes, and that the child goes when we do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixtures import guarded_functions as there

from smart_retrieval.errors import MissingExtraError
from smart_retrieval.files import UnreadableFileError
from smart_retrieval.guarded import calls, stop
from smart_retrieval.guarded.calls import interrupt
from smart_retrieval.guarded.frames import FrameError, Kind, read_frame, write_frame

PATH = Path("some.file")
MEMORY, TIME = r"some\.file: its reader ran out of memory", r"some\.file: its reader ran out of time"
CRASH = r"some\.file: its reader crashed"


@pytest.fixture(autouse=True)
def _own_child() -> Iterator[None]:
    yield
    stop()
    calls._GUARD._deaths.clear()


def pid() -> int:
    return int(there.describe(PATH).values["pid"])


def gone(number: int, within: float = 10.0) -> bool:
    """Whether a process ends within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_result_comes_back_from_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stop()  # a child that other tests had read files in has imported what they needed
    found = there.describe(PATH, "one", data=b"\0\xff")
    # The path is made absolute here: the child may stand in another folder.
    assert found.path == str(tmp_path / PATH)
    assert found.parts == ("one", "é")
    assert found.data == b"\0\xff"
    assert found.values["n"] == [1, 2.5, None]
    assert found.values["pid"] != os.getpid()
    assert found.values["heavy"] == []
    assert pid() == found.values["pid"]


def test_names_that_are_not_unicode_reach_the_child(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.txt")
    path.write_bytes(b"12345")
    assert there.size(path) == 5
    with pytest.raises(UnreadableFileError, match="not the name of a file"):
        there.size(Path("\ud800"))


def test_errors_keep_their_kind_and_name_the_file() -> None:
    with pytest.raises(UnreadableFileError) as caught:
        there.fail(PATH, "unreadable")
    assert (caught.value.path, caught.value.reason, caught.value.detail) == ("some.file", "no pages", "0")
    with pytest.raises(MissingExtraError, match="run  pip install"):
        there.fail(PATH, "extra")
    with pytest.raises(UnreadableFileError, match=MEMORY):
        there.fail(PATH, "memory")
    with pytest.raises(UnreadableFileError, match=r"its reader failed \(KeyError: 'k"):
        there.fail(PATH, "other")
    with pytest.raises(UnreadableFileError, match=r"its reader failed \(UnicodeEncodeError"):
        there.half_a_character(PATH)
    with pytest.raises(UnreadableFileError, match="gives more than can be taken"):
        there.large(PATH, 2 * there.MIB)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[ocr\]"):
        there.needing(PATH)
    assert len(there.large(PATH, there.MIB // 2)) == there.MIB // 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: there.sleep(PATH, 20), TIME),
        (lambda: there.spin_in_c(PATH), TIME),
        (lambda: there.grow(PATH, 2000), MEMORY),
        (lambda: there.grow_at_once(PATH, 2000), MEMORY),
        (lambda: there.leave(PATH), rf"{CRASH} .*\(status 3\)"),
        *((lambda number=number: there.die(PATH, number), CRASH) for number in there.DEADLY),
    ],
)
def test_what_kills_the_child_is_named_and_the_next_call_goes_on(call: Callable[[], Any], message: str) -> None:
    before = pid()
    began = time.monotonic()
    with pytest.raises(UnreadableFileError, match=message):
        call()
    assert time.monotonic() - began < 15
    assert pid() > 0
    if "memory" not in message:  # which may be refused without killing it
        assert gone(before)


def test_steps_give_a_long_file_its_time() -> None:
    assert there.sleep_in_steps(PATH, 12) == 12
    assert there.sleep(PATH, 0.1) == pid()


def test_a_file_that_kills_the_child_again_and_again_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "deadly"
    path.write_text("x")
    for _ in range(3):
        with pytest.raises(UnreadableFileError, match=r"crashed .*status 3"):
            there.leave(path)
    with pytest.raises(UnreadableFileError, match="not tried again"):
        there.leave(path)
    with pytest.raises(UnreadableFileError, match="not tried again"):
        there.describe(path)
    path.write_text("another file now")
    assert there.describe(path).path == str(path)


def test_a_child_killed_from_outside_costs_one_call(tmp_path: Path) -> None:
    os.kill(first := pid(), signal.SIGKILL)
    while calls._GUARD._child.alive:  # its other threads end after the one that psutil sees
        time.sleep(0.01)
    assert pid() != first  # between calls it costs none
    marker = tmp_path / "begun"
    caught: list[BaseException] = []

    def work() -> None:
        try:
            there.sleep_long(PATH, str(marker))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (marker.exists() and marker.read_text()):
        time.sleep(0.01)
    os.kill(int(marker.read_text()), signal.SIGKILL)
    thread.join(10)
    assert [str(error) for error in caught] == [
        "cannot read some.file: its reader crashed (possibly hostile) (signal 9)"
    ]
    assert pid() > 0


def test_threads_share_the_child() -> None:
    problems: list[object] = []
    seen: set[int] = set()

    def work(number: int) -> None:
        try:
            for turn in range(20):
                found = there.describe(Path(f"file{number}-{turn}"), data=bytes(number * 50_000))
                assert found.path.endswith(f"file{number}-{turn}")
                assert len(found.data) == number * 50_000
                seen.add(found.values["pid"])
                if turn == 10 and number == 1:
                    with pytest.raises(UnreadableFileError):
                        there.leave(Path(f"deadly{number}"))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(seen) == 2


def test_a_forked_process_has_a_child_of_its_own() -> None:
    own = pid()
    read, write = os.pipe()
    forked = os.fork()
    if forked == 0:
        try:
            os.write(write, f"{pid()}".encode())
            stop()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        other = int(file.read())
    os.waitpid(forked, 0)
    assert other != own
    assert gone(other)
    assert pid() == own


@pytest.mark.parametrize("busy", [False, True])
def test_the_child_goes_when_its_parent_is_killed(tmp_path: Path, busy: bool) -> None:
    marker = tmp_path / "pid"
    code = f"""
        import os, threading, time
        from pathlib import Path
        from fixtures import guarded_functions as there
        number = there.describe(Path("x")).values["pid"]
        # A process forked meanwhile must not keep the child's input open.
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        if {busy}:
            there.sleep_long(Path("x"), {str(marker)!r})
        Path({str(marker)!r}).write_text(str(number))
        time.sleep(30)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment())
    while not (marker.exists() and marker.read_text()):
        time.sleep(0.01)
    forked = [one for one in psutil.Process(parent.pid).children() if one.pid != int(marker.read_text())]
    parent.kill()
    parent.wait()
    assert gone(int(marker.read_text()))
    for one in forked:
        one.kill()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])}


def test_a_script_without_a_main_guard_and_standard_input(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os
        from pathlib import Path
        from fixtures import guarded_functions as there
        print(there.main_module(Path("x")), there.print_much(Path("x")))
        """
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working directory')")
    for arguments, given in ([str(script)], ""), (["-c", code], ""), (["-"], code), (["-i", "-"], code):
        ran = subprocess.run(
            [sys.executable, *arguments],
            input=given,
            capture_output=True,
            text=True,
            env=environment(),
            cwd=tmp_path / "..",
            check=False,
        )
        assert ran.stdout == "None 0\n", ran.stderr
    assert "noise" not in ran.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as usual, also where the tests were started in the background and ignore it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("interruptible")
def test_a_call_that_is_interrupted_leaves_no_answer_behind() -> None:
    before = pid()
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        there.wait_in_c(PATH)
    assert pid() != before


def test_another_thread_ends_the_call_of_a_thread() -> None:
    errors: list[Exception] = []

    def wait() -> None:
        try:
            there.wait_in_c(PATH)
        except UnreadableFileError as error:
            errors.append(error)

    before = pid()
    thread = threading.Thread(target=wait)
    thread.start()
    deadline = time.monotonic() + 20
    interrupt(threading.get_ident())  # which is in no call
    while thread.is_alive() and time.monotonic() < deadline:
        interrupt(thread.ident)
        time.sleep(0.02)
    assert len(errors) == 1
    assert pid() != before


def test_a_child_that_has_grown_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pid()
    calls._GUARD.call(there.describe, calls.Limits(idle=1), PATH, [], {})
    assert gone(before)
    monkeypatch.setattr(calls, "_MOST_CALLS", 3)
    first = pid()
    assert [pid() == first for _ in range(3)] == [True, True, False]


def test_a_child_with_a_name_is_another() -> None:
    before = pid()
    others = [there.describe_elsewhere(PATH).values["pid"] for _ in range(2)]
    assert len({before, *others}) == 3, "that child holds more than it may keep"
    assert pid() == before
    stop()
    assert gone(before)


def test_no_program_to_start_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop()
    for program in (tmp_path / "none", Path("/bin/false")):
        monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda program=program: str(program))
        with pytest.raises(UnreadableFileError, match="the process that reads it cannot be started"):
            there.describe(PATH)
    monkeypatch.undo()
    assert pid() > 0


@pytest.mark.parametrize(
    "value", [None, 5, "text", {"path": 5}, {"path": "a", "parts": "b"}, {"path": "a", "data": "text"}, [[]]]
)
def test_only_what_was_promised_is_taken(value: Any) -> None:
    with pytest.raises(UnreadableFileError, match=rf"{CRASH} .*its answer is not what was asked for"):
        there.something_else(PATH, value)


def test_only_marked_functions_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableFileError, match="guarded_limits"):
        calls._GUARD.call(there.unmarked, calls.Limits(), PATH, [], {})
    with pytest.raises(UnreadableFileError, match="AttributeError"):
        calls._GUARD.call(os.system, calls.Limits(), PATH, [], {})


def test_frames(tmp_path: Path) -> None:
    file = tmp_path / "frames"
    with FileIO(file, "w") as out:
        write_frame(out, Kind.RESULT, b"x" * 3_000_000)
        write_frame(out, Kind.STEP)
        out.write(b"\x09" + bytes(8))
        out.write(b"\x03\xff")
    with FileIO(file) as back:
        assert read_frame(back, 3_000_000) == (Kind.RESULT, b"x" * 3_000_000)
        assert read_frame(back, 0) == (Kind.STEP, b"")
        with pytest.raises(FrameError, match="kind 9"):
            read_frame(back, 100)
        with pytest.raises(FrameError, match="gone"):
            read_frame(back, 100)
    with FileIO(file) as back, pytest.raises(FrameError, match="3,000,000 bytes"):
        read_frame(back, 2_999_999)

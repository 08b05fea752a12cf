"""Faults on demand, and the command with its control channel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from tests.servicebus import servicebus_emulator
from tests.servicebus_emulator.peer import connected, message

from holdfast.servicebus_emulator.amqp.performatives import (
    RECEIVER,
    Accepted,
    Disposition,
    Flow,
    Transfer,
)
from holdfast.servicebus_emulator.entities.options import NAMES, QueueOptions

COMMAND = [sys.executable, "-m", "holdfast", "servicebus-emulator", "--port", "0"]


async def receive_one(peer, queue):
    """Send a message, receive it, and say that it is done."""
    await peer.open()
    await peer.sender(queue)
    peer.send(message(b"x"), 0)
    await peer.hear(Disposition)
    await peer.receiver(queue)
    peer.credit(1)
    await peer.hear(Transfer)
    complete(peer)


def complete(peer):
    peer.say(Disposition(RECEIVER, 0, 0, False, Accepted()))


async def answered(peer):
    """Whether an outcome comes before the answer to what is asked after it."""
    peer.say(Flow(1, 1 << 20, 1, 10, echo=True))
    said, _ = await peer.hear((Disposition, Flow))
    return isinstance(said, Disposition)


async def test_swallowed_settlements_are_neither_done_nor_answered(servicebus, queue):
    servicebus.do("swallow", what="settlements", count=1)
    async with connected(servicebus.port) as peer:
        await receive_one(peer, queue)
        assert not await answered(peer)
        assert servicebus.counts(queue) == {"locked": 1}
        complete(peer)
        await peer.hear(Disposition)
        assert servicebus.counts(queue) == {}


async def test_swallowed_outcomes_are_done_and_not_answered(servicebus, queue):
    servicebus.do("swallow", what="outcomes")
    async with connected(servicebus.port) as peer:
        await receive_one(peer, queue)
        assert not await answered(peer)
        assert servicebus.counts(queue) == {}


async def test_swallowed_receipts_are_not_sent_for_messages_that_are_taken(servicebus, queue):
    servicebus.do("swallow", what="receipts", count=1)
    async with connected(servicebus.port) as peer:
        await peer.open()
        await peer.sender(queue)
        peer.send(message(b"x"), 0)
        assert not await answered(peer)
        assert servicebus.counts(queue) == {"active": 1}
        peer.send(message(b"y"), 1)
        assert (await peer.hear(Disposition))[0].first == 1


async def test_answers_can_be_late(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await receive_one(peer, queue)
        await peer.hear(Disposition)
        servicebus.do("delay", seconds=0.2)
        begun = asyncio.get_running_loop().time()
        peer.send(message(b"x"), 1)
        assert not await answered(peer)
        await peer.hear(Disposition)
        assert asyncio.get_running_loop().time() - begun >= 0.2


async def test_a_bounce_ends_connections_and_refuses_new_ones_for_a_while(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        assert servicebus.do("bounce", refuse=60)["closed"] >= 1
        with pytest.raises(ConnectionError):
            while await peer.frame() is not None:
                pass
            raise ConnectionError
    with pytest.raises((ConnectionError, AssertionError)):
        async with connected(servicebus.port) as peer:
            await peer.open()
    servicebus.move(60)
    async with connected(servicebus.port) as peer:
        await peer.open()


async def test_the_real_client_outlives_a_bounce(servicebus, queue):
    string = servicebus.connection_string
    async with ServiceBusClient.from_connection_string(string, keep_alive=0, retry_backoff_factor=0.1) as client:
        async with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
            await sender.send_messages(ServiceBusMessage("before"))
            (found,) = await receiver.receive_messages(max_wait_time=5)
            servicebus.do("bounce")
            # By its token, over a new connection: the lock outlives the link.
            await receiver.complete_message(found)
            await sender.send_messages(ServiceBusMessage("after"))
            (found,) = await receiver.receive_messages(max_wait_time=5)
            assert str(found) == "after"
    assert servicebus.counts(queue) == {"locked": 1}


# --- the control channel


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "JSONDecodeError"),
        ("[]", "AttributeError"),
        ('{"do": "dance"}', "do one of queue, counts, sessions, move"),
        ('{"do": "move", "seconds": -1}', "forward only"),
        ('{"do": "swallow", "what": "pride"}', "pride"),
        ('{"do": "queue", "name": "q", "options": {"lock": 0}}', "lock cannot be 0"),
        ('{"do": "queue", "name": "q", "options": {"lck": 1}}', "no option 'lck'"),
        ('{"do": "queue", "name": "$cbs"}', "cannot be the name"),
    ],
)
def test_an_order_that_cannot_be_followed_is_answered_with_the_reason(servicebus, line, said):
    servicebus.process.stdin.write(line + "\n")
    servicebus.process.stdin.flush()
    answer = json.loads(servicebus.process.stdout.readline())
    assert not answer["ok"]
    assert said in answer["error"]


# --- the command


async def test_it_says_where_it_listens_in_one_line_and_ends_cleanly():
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            line = process.stdout.readline()
            assert "in memory only" in line
            port = int(line.partition("sb://127.0.0.1:")[2].partition(";")[0])
            async with connected(port) as peer:
                await peer.open()
                process.send_signal(number)
                assert process.wait(10) == 0
            assert process.communicate() == ("", "")


def test_it_tells_a_file_descriptor_when_it_is_ready():
    reading, writing = os.pipe()
    command = [*COMMAND, "--ready-fd", str(writing)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=[writing]) as process:
        os.close(writing)
        with os.fdopen(reading) as ready:
            assert "UseDevelopmentEmulator=true" in ready.read()
        process.terminate()


def test_with_a_control_channel_it_ends_with_who_holds_it():
    with servicebus_emulator() as running:
        running.process.stdin.close()
        assert running.process.wait(10) == 0


async def test_queues_faults_and_the_clock_can_be_set_from_the_start(tmp_path: Path):
    config = tmp_path / "queues.json"
    config.write_text(json.dumps({"queues": {"from-file": {"lock": 30}}}))
    options = ["--config", str(config), "--queue", "given:lock=30,sessions", "--no-auto-create"]
    with servicebus_emulator(*options, "--clock-offset", "100", "--delay", "0.1", "--swallow", "receipts:1") as running:
        assert set(running.do("counts")["queues"]) == {"from-file", "given"}
        assert running.do("move", seconds=0)["offset"] == 100
        async with connected(running.port) as peer:
            await peer.open()
            await peer.sender("from-file")
            peer.send(message(b"x"), 0)
            peer.send(message(b"y"), 1)
            assert (await peer.hear(Disposition))[0].first == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--queue", "q:lock=soon"], "'soon' is neither"),
        (["--queue", "q:colour=1"], "there is no option 'colour'"),
        (["--queue", ":lock=1"], "cannot be the name"),
        (["--swallow", "pride"], "settlements, outcomes, receipts"),
        (["--swallow", "receipts:few"], "settlements, outcomes, receipts"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options, said):
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"queues": []}'])
def test_a_config_that_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, text):
    config = tmp_path / "queues.json"
    config.write_text(text)
    done = subprocess.run([*COMMAND, "--config", str(config)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "queues.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_has_every_option_of_a_queue_with_its_default():
    page = (Path(__file__).resolve().parents[2] / "docs/howto/servicebus-emulator.md").read_text()
    defaults = QueueOptions()
    for name in NAMES:
        value = getattr(defaults, name.replace("-", "_"))
        shown = "none" if value is None else json.dumps(value).removesuffix(".0")
        assert f"| `{name}` | {shown} |" in page

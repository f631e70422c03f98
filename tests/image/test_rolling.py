"""Replacing containers one after the other behind a proxy, as a cluster does: clients lose nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest import Container, Start, stand_in
from engine import NETWORK, docker
from test_stop import Load, post

ROUNDS = 10
ADDRESSES = (f"{NETWORK}.242", f"{NETWORK}.243")
PROXY = f"{NETWORK}.244"
START_S = 300  # on a machine that is busy with other things too


@pytest.fixture
def network(image: str) -> Iterator[str]:  # noqa: ARG001  the daemon must run
    """Make a network in which containers have the addresses that they ask for, and remove it after the test."""
    name = "praetor-rolling"
    docker("network", "create", "--subnet", f"{NETWORK}.240/28", name)
    yield name
    for container in docker("ps", "--all", "--quiet", "--filter", f"network={name}").stdout.split():
        docker("rm", "--force", "--volumes", container)
    docker("network", "rm", name)


@pytest.mark.long
def test_ten_rolling_replacements_behind_a_proxy_lose_no_request(network: str, start: Start) -> None:
    def begin(address: str) -> Container:
        container = start(options=("--network", network, "--ip", address))
        return container.ready(timeout_s=START_S, address=address)

    serving = [begin(address) for address in ADDRESSES]
    found = ("--env", f"FIRST={ADDRESSES[0]}", "--env", f"SECOND={ADDRESSES[1]}")
    proxy = start(image=stand_in("haproxy"), options=("--network", network, "--ip", PROXY, *found))
    proxy.ready(8081, START_S, address=PROXY, path="/")
    quick = Load(PROXY, 20, port=8080, rest_s=0.1)
    slow = Load(PROXY, 4, post, port=8080, pause_s=1)
    try:
        for _ in range(ROUNDS):
            for number, address in enumerate(ADDRESSES):
                docker("stop", "--time", "120", serving[number].name)
                assert serving[number].inspect("{{.State.ExitCode}}") == "0"
                docker("rm", "--volumes", serving[number].name)
                serving[number] = begin(address)
                proxy.ready(8081, START_S, address=PROXY, path="/")
                time.sleep(0.5)  # both serve
    finally:
        answers, made = quick.end(), slow.end()
    print(f"{ROUNDS} rounds over {len(ADDRESSES)} containers: {dict(answers)} quick, {dict(made)} slow")  # noqa: T201  the figure
    assert answers.keys() == {200}, answers
    assert made.keys() == {201}, made
    assert answers[200] > 100 * ROUNDS
    assert made[201] > 2 * ROUNDS

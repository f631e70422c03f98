"""What a balancer costs: processor time for a request, by service, and latency, with one host asked directly and through the balancers.

    make molecule's scenario `fleet` up to converge, then: PYTHONPATH=tests/support python bench/balancer_cost.py

Both ways take turns. Processor times hold on a busy machine; latencies there only say how the two compare.
"""

from __future__ import annotations

import ssl
import statistics
import threading
import time

from balanced import AUTHORITY, Balanced
from client import Site
from fleet import SITE, Host

ROUNDS, REQUESTS, CLIENTS = 5, 200, 8
SERVICES = {"haproxy": "haproxy.service", "nginx": "nginx.service", "app": "apps-sample.slice"}


def used_us(hosts: list[Host]) -> dict[str, float]:
    """Processor time of each service so far, in microseconds, over all hosts."""
    found = dict.fromkeys(SERVICES, 0.0)
    for host in hosts:
        for name, unit in SERVICES.items():
            said = host.run(f"systemctl show --value --property=CPUUsageNSec {unit}").strip()
            found[name] += int(said) / 1000 if said.isdecimal() else 0
    return found


def ask(place: Site, times: list[float]) -> None:
    connection = place.open(SITE)
    for _ in range(REQUESTS):
        began = time.perf_counter()
        connection.request("GET", "/", headers={"Host": SITE})
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
    connection.close()


def measure(place: Site, hosts: list[Host]) -> tuple[dict[str, float], float]:
    """Microseconds for a request by service, and the 99th percentile of latency in milliseconds."""
    before, times = used_us(hosts), list[float]()
    clients = [threading.Thread(target=ask, args=(place, times)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    after = used_us(hosts)
    return {name: (after[name] - before[name]) / len(times) for name in SERVICES}, sorted(times)[int(len(times) * 0.99)]


def main() -> None:
    fleet = Balanced()
    fleet.load.stop()
    hosts = [*fleet.hosts, *fleet.balancers]
    ways = {
        "direct": Site(fleet.first.address, ssl.create_default_context(cafile=str(AUTHORITY))),
        "balanced": Site(fleet.address, ssl.create_default_context(cafile=fleet.roots)),
    }
    seen: dict[str, list[tuple[dict[str, float], float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, place in ways.items():
            seen[way].append(measure(place, hosts))
    heads = [f"{name} us" for name in SERVICES]
    print(f"{'':<10}{''.join(f'{head:>12}' for head in heads)}{'p99 ms':>10}   medians of {ROUNDS}")
    for way, rounds in seen.items():
        cells = [statistics.median(used[name] for used, _ in rounds) for name in SERVICES]
        p99 = statistics.median(slowest for _, slowest in rounds)
        print(f"{way:<10}{''.join(f'{cell:>12.0f}' for cell in cells)}{p99:>10.1f}")


if __name__ == "__main__":
    main()

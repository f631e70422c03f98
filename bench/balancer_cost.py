"""What balancers cost: processor time for a request, by service, and latency, with the app hosts asked directly and through the balancers.

    make molecule's scenario `fleet` up to converge, then: PYTHONPATH=tests/support python bench/balancer_cost.py

Both ways take turns, and the ratio is taken in each round: latencies on a busy machine only say how the two compare.
"""

from __future__ import annotations

import ssl
import statistics
import threading
import time

from balanced import AUTHORITY, Balanced
from client import Site
from reached import Host
from variants import SITE

ROUNDS, REQUESTS, CLIENTS = 7, 200, 9
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


def measure(places: list[Site], hosts: list[Host]) -> dict[str, float]:
    """Microseconds for a request by service, and the 99th percentile of latency in milliseconds; clients share the places equally."""
    before, times = used_us(hosts), list[float]()
    clients = [threading.Thread(target=ask, args=(places[each % len(places)], times)) for each in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    after = used_us(hosts)
    found = {f"{name} us": (after[name] - before[name]) / len(times) for name in SERVICES}
    return {**found, "all us": sum(found.values()), "p99 ms": sorted(times)[int(len(times) * 0.99)]}


def main() -> None:
    fleet = Balanced()
    fleet.load.stop()
    hosts = [*fleet.hosts, *fleet.balancers]
    direct = ssl.create_default_context(cafile=str(AUTHORITY))
    ways = {
        "direct": [Site(host.address, direct) for host in fleet.hosts],
        "balanced": [Site(fleet.address, ssl.create_default_context(cafile=fleet.roots))],
    }
    seen: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, places in ways.items():
            seen[way].append(measure(places, hosts))
    print(f"| medians of {ROUNDS} | {' | '.join(ways)} | ratio | spread |\n|---|---|---|---|---|")
    for figure in seen["direct"][0]:
        both = {way: [each[figure] for each in rounds] for way, rounds in seen.items()}
        cells = [f"{statistics.median(found):.4g}" for found in both.values()]
        ratios = [after / before for before, after in zip(*both.values(), strict=True) if before]
        last = f"{statistics.median(ratios):.2f} | {min(ratios):.2f}-{max(ratios):.2f}" if ratios else " | "
        print(f"| {figure} | {' | '.join(cells)} | {last} |")


if __name__ == "__main__":
    main()

"""What clients ask while the monitoring host is away is there when it is back: over a rotation, a restart of the uploader and a reboot of the host."""

from __future__ import annotations

import ssl
import uuid
from collections import Counter

from client import Site
from watch import Lab

NAME = "sample.lab.example"
RECEIVER = "stunnel@journal"
READ = "journalctl -D /var/log/journal/remote --quiet --no-pager --all -o cat --since=-1h SYSLOG_IDENTIFIER=sample _HOSTNAME=app1"


def test_nothing_is_missing_after_a_time_without_the_monitoring_host(lab: Lab) -> None:
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    site, asked = Site(lab.addresses["app1"], anybody), list[str]()

    def ask(count: int) -> None:
        for _ in range(count):
            asked.append(uuid.uuid4().hex)
            site.ask(NAME, "/nowhere", {"X-Request-ID": asked[-1]})

    def in_archive() -> Counter[str]:
        """How often the archive has each; the host's clock and the order of its files play no part."""
        found = lab.run(
            "mon1", f'{READ} | grep -o -E \'"request_id":"[0-9a-f]{{32}}"\' | cut -d\'"\' -f4; true'
        ).split()
        return Counter(each for each in found if each in set(asked))

    def all_there() -> Counter[str] | None:
        found = in_archive()
        return found if set(asked) <= found.keys() else None

    ask(20)
    lab.wait("first lines in the archive", all_there)
    with lab.repaired("mon1", f"systemctl start {RECEIVER}"):
        lab.run("mon1", f"systemctl stop {RECEIVER}")
        before = len(asked)
        ask(100)
        lab.run("app1", "logrotate --force /etc/logrotate.d/nginx")
        ask(100)
        lab.run("app1", "systemctl restart access-log-upload")
        ask(100)
        lab.run("app1", "logrotate --force /etc/logrotate.d/nginx")
        ask(100)
        lab.ansible("app1", "-b", "-m", "ansible.builtin.reboot")
        lab.wait("answer after the reboot", lambda: answers(site))
        ask(100)
        assert not in_archive().keys() & set(asked[before:])
    found = lab.wait("lines of that time in the archive", all_there)
    # Whole batches may come again, each at the most as often as a connection broke in the middle of it; here none did.
    assert [each for each, count in found.items() if count > 1] == []


def answers(site: Site) -> bool | None:
    """Whether the app is served."""
    try:
        return site.ask(NAME, "/").status < 500 or None
    except OSError:
        return None

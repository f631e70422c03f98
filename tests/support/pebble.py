"""An ACME authority for tests, Debian 13's pebble, on a host of the lab: what is run there as root."""

from __future__ import annotations

# Starts it: the arguments are its address, that to which the names lead, and the names. Prints whom to trust about its directory.
START = """
set -e
export DEBIAN_FRONTEND=noninteractive
command -v pebble >/dev/null || { apt-get update -q; apt-get install -q -y --no-install-recommends pebble openssl; } >/dev/null
mkdir -p /etc/acme-test
cd /etc/acme-test
[ -f key.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=pebble \\
  -addext "subjectAltName=IP:$1" -keyout key.pem -out cert.pem 2>/dev/null
cat > config.json <<END
{"pebble": {"listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000", "certificate": "/etc/acme-test/cert.pem",
 "privateKey": "/etc/acme-test/key.pem", "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "",
 "externalAccountBindingRequired": false, "retryAfter": {"authz": 1, "order": 1}}}
END
grep -q refused.lab.example /etc/hosts || printf '%s refused.lab.example\\n%s %s\\n' "$1" "$2" "$3" >> /etc/hosts
systemctl is-active -q acme-test || systemd-run -q --unit=acme-test --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0 \\
  --property=StandardOutput=journal "$(command -v pebble)" -config /etc/acme-test/config.json
for _ in $(seq 50); do python3 -c 'import socket; socket.create_connection(("127.0.0.1", 14000), 1)' 2>/dev/null && break; sleep 0.2; done
cat cert.pem
"""
# Prints the root of what it issues, which is another one after each start.
ROOT = """
import ssl, urllib.request
print(urllib.request.urlopen("https://127.0.0.1:15000/roots/0", context=ssl._create_unverified_context()).read().decode())
"""

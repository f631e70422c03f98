"""Lines of an access log as entries of a journal, in the format in which journals are sent: https://systemd.io/JOURNAL_EXPORT_FORMATS."""

from __future__ import annotations

import re
import time

CONTENT_TYPE = "application/vnd.fdo.journal"
# An entry without the id of a boot is dropped by Debian 13's receiver, which answers that it has it (seen on 257). Entries of one boot are ordered by a
# clock that a file does not have, those of several by the time of day: so these are of none that there was.
_BOOT = "f1a3c0d2b6e74958a7d4e05b9c8261f7"
# NGINX's own beginning of a line; what comes from a client stands behind it, and ends no line.
_LINE = re.compile(rb'^\{"ts":(\d+)\.(\d{3}),[^\n]*\n', re.MULTILINE)


def entries(lines: bytes, app: str, host: str) -> bytes:
    """Make an entry of each line, with the time of its request, as if NGINX had sent it to the journal of the host itself."""
    fields = f"_BOOT_ID={_BOOT}\n_HOSTNAME={host}\n_SYSTEMD_UNIT=nginx.service\nSYSLOG_IDENTIFIER={app}\nPRIORITY=6\n".encode()
    template = rb"__REALTIME_TIMESTAMP=\g<1>\g<2>000" + b"\n" + fields + rb"MESSAGE=\g<0>" + b"\n"
    made, count = _LINE.subn(template, lines)
    if count == lines.count(b"\n") and lines.endswith(b"\n"):
        return made
    return b"".join(_entry(line, template, fields) for line in lines.removesuffix(b"\n").split(b"\n"))


def _entry(line: bytes, template: bytes, fields: bytes) -> bytes:
    """An entry of anything: what is left of a line after a full disk, as it is, with the present time."""
    made, count = _LINE.subn(template, line + b"\n")
    return made if count else b"__REALTIME_TIMESTAMP=%d\n%sMESSAGE=%s\n\n" % (time.time() * 1e6, fields, line)

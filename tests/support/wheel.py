"""Tiny wheels, made by hand."""

import base64
import hashlib
import zipfile
from pathlib import Path


def make_wheel(
    place: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    files: dict[str, str] | None = None,
    needs: str = "",
    listed: str = "",
) -> Path:
    """Write a wheel with a module of its name, or with other files."""
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    content = dict(files or {f"{name}.py": f"VERSION = {version!r}\n"})
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n"
    lines = []
    for file, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(text.encode())}\n")
    if listed:
        lines.append(f"{listed},,\n")
    content[f"{info}/RECORD"] = "".join(lines) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

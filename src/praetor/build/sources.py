"""What is shipped of a project: the files of its tree, as git knows them, and what is left out of them in words."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from praetor.documents import Origin
from praetor.host.layout import ReleaseError

from .cache import temporary_for
from .programs import last_lines, run, without_credentials

# What tools leave at the root of a working copy. Only where git does not track it: a project may well have a folder of such a name.
_LEFTOVERS = frozenset({"venv", ".venv", "node_modules", "dist", "build", ".tox", ".nox", ".hg", ".svn", ".idea"})
# What tools make from other files, and make again where they need it: wherever it lies, unless git tracks it.
_CACHES = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".git"})
# What a build command installs to be able to build.
_INSTALLED = frozenset({"node_modules", "venv", ".venv", *_CACHES})
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_MAX = 1024  # bytes; pointers are shorter


@dataclass(frozen=True)
class Source:
    """A tree of files on the controller, and what git says of it."""

    tree: pathlib.Path
    files: tuple[pathlib.Path, ...]  # relative to tree
    commit: str | None
    dirty: bool
    described: str | None  # `git describe --tags`, for projects that state no version
    left_out: tuple[str, ...] = ()  # what lies in the tree and is not shipped
    at: pathlib.Path = (
        pathlib.Path()
    )  # the project itself, of which `tree` may be a copy: what it names with .. is found from here
    root: pathlib.Path | None = None  # of a repository that was cloned: what it names does not lead out of it


def get(wanted: Origin, project: pathlib.Path, cache: pathlib.Path, scratch: pathlib.Path, *, copy: bool) -> Source:
    """The files of a `path` or `git` source, with submodules and large files in place.

    Args:
        wanted: `source` of an entry of the inventory.
        project: what a relative path is relative to.
        cache: keeps a mirror of each git repository.
        scratch: an empty directory that the caller removes.
        copy: whether the tree is to be written to: then it is a copy.

    Raises:
        ReleaseError: what is missing, or leads out of the tree.
    """
    if wanted.get("git"):
        source = _cloned(wanted["git"], wanted["ref"], wanted.get("subdir") or ".", cache, scratch)
        repository = scratch / "clone"
    else:
        source = _look_at(project / wanted["path"])
        repository = source.tree
        absent = _absent_submodules(source.tree)
        if copy or absent or _pointers(source):
            place = scratch / "copy"
            export(source, place)
            added = _fetched_submodules(source.tree, absent, place, scratch) if absent else ()
            files = tuple(sorted({*source.files, *added}))
            source = replace(source, tree=place, files=files, at=place if added else source.at)
    _fetch_large_files(source, repository)
    at = project / wanted["path"] if wanted.get("path") else source.tree
    source = include(source, wanted.get("include", []), at, made_later=copy)
    refuse_links_out(source)
    return source


def _look_at(tree: pathlib.Path) -> Source:
    if git(tree, "rev-parse", "--is-inside-work-tree") != "true":
        files, left_out = _walk(tree)
        return Source(tree, tuple(files), None, dirty=False, described=None, left_out=tuple(left_out), at=tree)
    files, left_out = _listed(tree)
    # The last commit that touched the app: a commit elsewhere in the repository is no new release of it.
    commit = git(tree, "log", "-1", "--format=%H", "--", ".") or None
    dirty = bool(git(tree, "status", "--porcelain", "--", "."))
    described = git(tree, "describe", "--tags", "--always", commit) if commit else None
    return Source(tree, tuple(files), commit, dirty, described, tuple(left_out), at=tree)


def _listed(tree: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """What git tracks and what is new, and which part is left out; git names a submodule or a repository inside, and not what is in it."""
    tracked = _names(git(tree, "ls-files", "-z", "--cached"))
    new = _names(git(tree, "ls-files", "-z", "--others", "--exclude-standard"))
    ignored = _names(git(tree, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"))
    left_out = [f"{shown(path)} (ignored by git)" for path in ignored if not _CACHES & set(path.parts)]
    found: list[pathlib.Path] = []
    for path in dict.fromkeys([*tracked, *new]):
        if not os.path.lexists(tree / path):
            continue
        if path not in tracked:
            if _CACHES & set(path.parts):
                continue
            if leftover := _leftover(tree, path):
                left_out.append(f"{shown(leftover)} (not tracked by git)")
                continue
        if (tree / path).is_dir() and not (tree / path).is_symlink():
            inside = _listed(tree / path)[0] if (tree / path / ".git").exists() else _walk(tree / path)[0]
            found += [path / each for each in inside]
        else:
            found.append(path)
    # git names a folder and, again, what in it is the reason.
    above = {str(parent) for words in left_out for parent in pathlib.Path(words.partition(" (")[0]).parents}
    return sorted(found), sorted(words for words in set(left_out) if words.partition(" (")[0] not in above)


def shown(path: os.PathLike[str] | str) -> str:
    """A path in words: bytes of its name that are no UTF-8 can be neither printed nor written to a document."""
    return os.fsencode(path).decode(errors="replace")


def _names(listed: str | None) -> list[pathlib.Path]:
    return [pathlib.Path(name) for name in (listed or "").split("\0") if name]


def _walk(tree: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """The files of a tree that git knows nothing of, and what is left out of it."""
    found, left_out = [], []
    for directory, folders, names in os.walk(tree):
        place = pathlib.Path(directory)
        top = place == tree
        kept = []
        for name in sorted(folders):
            if name in _CACHES:
                continue
            if top and (leftover := _leftover(tree, pathlib.Path(name))):
                left_out.append(leftover)
            elif (place / name).is_symlink():
                names.append(name)  # links to directories are listed among the directories, and not followed
            else:
                kept.append(name)
        folders[:] = kept
        # In a submodule, .git is a file.
        found += [(place / name).relative_to(tree) for name in names if name != ".git"]
    return sorted(found), left_out


def _leftover(tree: pathlib.Path, path: pathlib.Path) -> str:
    """The leftover at the root of a tree that a path lies in, or nothing."""
    first = path.parts[0]
    is_virtualenv = (tree / first / "pyvenv.cfg").is_file()
    return first if first in _LEFTOVERS or first.endswith(".egg-info") or is_virtualenv else ""


def _cloned(url: str, ref: str, subdir: str, cache: pathlib.Path, scratch: pathlib.Path) -> Source:
    failure = f"cannot get {ref} of {without_credentials(url)}"
    tree, commit, described = checkout(url, ref, cache, scratch / "clone", failure)
    place = tree / subdir
    if not place.is_dir():
        raise ReleaseError(f"{failure}: it has no directory {subdir} (source.subdir)")
    files = [
        path.relative_to(subdir)
        for path in _names(git(tree, "ls-files", "-z", "--cached", "--recurse-submodules"))
        if path.is_relative_to(subdir)
    ]
    return Source(place, tuple(sorted(files)), commit, dirty=False, described=described, at=place, root=tree)


def checkout(
    url: str, ref: str, cache: pathlib.Path, place: pathlib.Path, failure: str
) -> tuple[pathlib.Path, str, str | None]:
    """Check a ref of a repository out, with its submodules; returns the tree, the commit and what `git describe` says of it.

    Raises:
        ReleaseError: the repository or the ref is not there.
    """
    mirror = cache / "git" / hashlib.sha256(url.encode()).hexdigest()[:16]
    # An URL is data, never an option; and a prompt would hang the run.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    if not (mirror / "HEAD").is_file():
        mirror.mkdir(parents=True, exist_ok=True)
        run(["git", "init", "--quiet", "--bare", str(mirror)], failure)
    fetch = ["git", "-C", str(mirror), "fetch", "--quiet", "--force", "--prune", "--tags", "--", url]
    run([*fetch, "+refs/heads/*:refs/heads/*"], failure, env=environment)
    commit = git(mirror, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not commit:
        raise ReleaseError(f"{failure}: the repository has no branch, tag or commit of that name")
    run(["git", "clone", "--quiet", "--shared", "--no-checkout", "--", str(mirror), str(place)], failure)
    in_clone = ["git", "-C", str(place), "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"]
    run([*in_clone, "remote", "set-url", "origin", url], failure)
    run([*in_clone, "checkout", "--quiet", "--detach", commit], failure, env=environment)
    _update_submodules(place, url, [], failure)
    return place, commit, git(mirror, "describe", "--tags", "--always", commit)


def _update_submodules(clone: pathlib.Path, url: str, paths: Sequence[str], failure: str) -> None:
    if not (clone / ".gitmodules").is_file():
        return
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    # What comes over a network may not make git read this machine's repositories.
    local = ["-c", "protocol.file.allow=always"] if url.startswith(("/", "file:", ".")) else []
    command = ["git", "-C", str(clone), *local, "submodule", "--quiet", "update", "--init", "--recursive", "--", *paths]
    run(command, f"{failure}: its submodules cannot be fetched", env=environment)


def _absent_submodules(tree: pathlib.Path) -> list[str]:
    """Submodules of a working copy that were never fetched."""
    staged = (git(tree, "ls-files", "-z", "--stage") or "").split("\0")
    named = [line.partition("\t")[2] for line in staged if line.startswith("160000 ")]
    return [name for name in named if not (tree / name / ".git").exists() and not _walk(tree / name)[0]]


def _fetched_submodules(
    tree: pathlib.Path, absent: list[str], place: pathlib.Path, scratch: pathlib.Path
) -> list[pathlib.Path]:
    """Fetch submodules into a copy of a working copy, which itself stays as it is; returns their files."""
    failure = f"{tree}: submodule {', '.join(absent)}"
    top = pathlib.Path(git(tree, "rev-parse", "--show-toplevel") or tree)
    prefix = git(tree, "rev-parse", "--show-prefix") or ""
    origin = git(top, "config", "--get", "remote.origin.url") or str(top)
    clone = scratch / "modules"
    run(["git", "clone", "--quiet", "--shared", "--", str(top), str(clone)], failure)
    run(["git", "-C", str(clone), "remote", "set-url", "origin", origin], failure)
    _update_submodules(clone, origin, [prefix + name for name in absent], failure)
    found = []
    for name in absent:
        for path in _walk(clone / prefix / name)[0]:
            target = place / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(clone / prefix / name / path, target, follow_symlinks=False)
            found.append(pathlib.Path(name) / path)
    return found


def _pointers(source: Source) -> list[pathlib.Path]:
    """Files that are in Git LFS, and whose content is not here."""
    found = []
    for path in source.files:
        full = source.tree / path
        if not full.is_symlink() and full.is_file() and full.stat().st_size < _LFS_MAX:
            with full.open("rb") as content:
                if content.read(len(_LFS)) == _LFS:
                    found.append(path)
    return found


def _fetch_large_files(source: Source, repository: pathlib.Path) -> None:
    pointers = _pointers(source)
    if not pointers:
        return
    named = ", ".join(map(str, pointers[:3])) + (f" and {len(pointers) - 3} more" if len(pointers) > 3 else "")
    if shutil.which("git-lfs") is None:
        raise ReleaseError(
            f"{named}: in Git LFS, and this controller has only the pointer. Install git-lfs (Debian's package of that name) and run again."
        )
    for path in pointers:
        place = source.tree / path
        command = ["git", "-c", "safe.directory=*", "-C", str(repository), "lfs", "smudge", "--", str(path)]
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        pointer = place.read_bytes()
        done = subprocess.run(command, input=pointer, capture_output=True, check=False, env=environment)
        if done.returncode != 0 or done.stdout == pointer:
            said = last_lines(done.stderr.decode(errors="replace"))
            raise ReleaseError(f"{path}: in Git LFS, and its content cannot be fetched:\n{said}")
        place.write_bytes(done.stdout)


def include(source: Source, patterns: Sequence[str], at: pathlib.Path, *, made_later: bool = False) -> Source:
    """Add what `source.include` names, whether git ignores it or not.

    Args:
        source: the source.
        patterns: relative to its tree.
        at: where these files are: the working copy, of which the source's tree may be a copy.
        made_later: whether build commands may still make what a pattern names.

    Raises:
        ReleaseError: a pattern matches nothing.
    """
    added: set[pathlib.Path] = set()
    for pattern in patterns:
        files = _matching(at, pattern)
        if not files and not made_later:
            raise ReleaseError(
                f"source.include: {pattern}: there is no such file in {at}. Is what builds it to be run first, or named in `build`?"
            )
        added |= {path.relative_to(at) for path in files}
    for path in added:
        if not os.path.lexists(source.tree / path):
            (source.tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(at / path, source.tree / path, follow_symlinks=False)
    left_out = [
        words for words in source.left_out if not any(path.is_relative_to(words.partition(" (")[0]) for path in added)
    ]
    return replace(source, files=tuple(sorted({*source.files, *added})), left_out=tuple(left_out))


def matching(source: Source, patterns: Sequence[str]) -> list[pathlib.Path]:
    """The files of a source that patterns of `source.include` name."""
    return [path.relative_to(source.tree) for pattern in patterns for path in _matching(source.tree, pattern)]


def _matching(place: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    found = [path for path in place.glob(pattern) if path.resolve().is_relative_to(place.resolve())]
    return [inner for path in found for inner in ([path] if not path.is_dir() else _files_below(path))]


def _files_below(place: pathlib.Path) -> Iterator[pathlib.Path]:
    for directory, folders, names in os.walk(place):
        names += [name for name in folders if pathlib.Path(directory, name).is_symlink()]
        yield from (pathlib.Path(directory, name) for name in names)


def built(source: Source, before: set[pathlib.Path]) -> Source:
    """A copy of a source after its build commands: all that they made is in it, but for what they installed to be able to build."""
    found: list[pathlib.Path] = []
    for directory, folders, names in os.walk(source.tree):
        place = pathlib.Path(directory)
        links = [name for name in folders if (place / name).is_symlink()]
        found += [(place / name).relative_to(source.tree) for name in [*names, *links]]
    shipped = {
        path
        for path in found
        if path in before
        or not (_INSTALLED & set(path.parts) or any(part.endswith(".egg-info") for part in path.parts))
    }
    return replace(source, files=tuple(sorted(shipped)))


def refuse_links_out(source: Source) -> None:
    """Refuse symbolic links that would lead nowhere on a host.

    Raises:
        ReleaseError: a link leads out of the tree, or is absolute.
    """
    top = source.tree.resolve()
    for path in source.files:
        full = source.tree / path
        if not full.is_symlink():
            continue
        leads_to = full.readlink()
        if leads_to.is_absolute() or not (full.parent / leads_to).resolve().is_relative_to(top):
            raise ReleaseError(
                f"{shown(path)} is a symbolic link to {shown(leads_to)}, which is outside the project's tree, so that a host would not have it: "
                "replace it with the file itself, or make the link relative and inside"
            )


def digest(source: Source) -> str:
    """SHA-256 over names, contents and which files are programs."""
    found = hashlib.sha256()
    for path in source.files:
        full = source.tree / path
        content = os.fsencode(full.readlink()) if full.is_symlink() else full.read_bytes()
        executable = not full.is_symlink() and bool(full.stat().st_mode & stat.S_IXUSR)
        found.update(f"{path}\0{executable}\0{hashlib.sha256(content).hexdigest()}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def export(source: Source, place: pathlib.Path) -> None:
    """Copy just the files of a source to a place."""
    place.mkdir(parents=True, exist_ok=True)
    for path in source.files:
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.tree / path, target, follow_symlinks=False)


def below(source: Source, folder: pathlib.Path) -> Source:
    """The part of a source in a folder: of its files where the folder lies in the project, else all that is there.

    Raises:
        ReleaseError: the folder is outside of a repository that was cloned: that reads nothing else of this machine.
    """
    at, folder = source.at.resolve(), folder.resolve()
    if folder.is_relative_to(at):
        inner = folder.relative_to(at)
        files = tuple(path.relative_to(inner) for path in source.files if path.is_relative_to(inner))
        return replace(source, tree=source.tree / inner, files=files, at=folder)
    if source.root is not None and not folder.is_relative_to(source.root.resolve()):
        raise ReleaseError(f"{folder.name}: the repository names a folder outside itself, which no other machine has")
    return _look_at(folder)


def pack(source: Source, name: str, cache: pathlib.Path) -> dict[str, str]:
    """What is shipped of a project as it is, as a tar whose bytes depend on names and contents only; its entry in the manifest."""
    place = cache / "trees" / f"{name}.tar"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_for(place)
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in source.files:
                full, entry = source.tree / path, tarfile.TarInfo(str(path))
                if full.is_symlink():
                    entry.type, entry.linkname = tarfile.SYMTYPE, str(full.readlink())
                    archive.addfile(entry)
                else:
                    content = full.read_bytes()
                    entry.mode = 0o755 if full.stat().st_mode & stat.S_IXUSR else 0o644
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        temporary.rename(place)
    return {"digest": name, "sha256": hashlib.sha256(place.read_bytes()).hexdigest(), "file": place.name}


def git(tree: pathlib.Path, *words: str) -> str | None:
    """What git prints in a tree; None where it fails. A name is bytes to git: one that is no UTF-8 comes as Python's own names of files do."""
    # The tree may belong to someone else than the user who deploys; that git refuses is a protection for interactive use.
    command = ["git", "-c", f"safe.directory={tree.resolve()}", "-c", "safe.directory=*", "-C", str(tree), *words]
    done = subprocess.run(command, capture_output=True, check=False)
    return os.fsdecode(done.stdout).strip("\n") if done.returncode == 0 else None

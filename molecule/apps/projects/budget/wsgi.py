"""I Hate Money with the settings next to this file: a relative name in its variable would be looked for in /etc/ihatemoney."""

import os
import pathlib

os.environ["IHATEMONEY_SETTINGS_FILE_PATH"] = str(pathlib.Path(__file__).with_name("ihatemoney.cfg").resolve())

from ihatemoney.wsgi import application  # noqa: E402, F401

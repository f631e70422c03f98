"""A folder over WebDAV. NGINX asks for the password, so whoever comes as far as this may write."""

import os
import pathlib

from wsgidav.wsgidav_app import WsgiDAVApp

ROOT = pathlib.Path(os.environ["APP_DATA_DIR"], "files")
ROOT.mkdir(exist_ok=True)

application = WsgiDAVApp(
    {
        "provider_mapping": {"/": str(ROOT)},
        "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
        "simple_dc": {"user_mapping": {"*": True}},
    }
)

"""Makes the encrypted copy of what this controller alone has, or brings it back; contacts no host."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret

from praetor.host.layout import ReleaseError
from praetor.pki.copies import fingerprint, pack, unpack
from praetor.pki.pem import PemError
from praetor.run.on_controller import ControllerAction

EXAMPLE = "inventories/example-vault-password"


class ActionModule(ControllerAction):
    """Arguments: `authority_dir`; `passphrase_file`, or empty for the vault's password; `text`, a copy to bring back instead of making one."""

    def do(self, args: Mapping[str, object]) -> Mapping[str, object]:
        """Return `text` and `about`, or `files`, which were written."""
        directory = Path(str(args["authority_dir"])).expanduser()
        passphrase = str(args.get("passphrase_file") or "")
        try:
            if "text" in args:
                opened = VaultLib(self._secrets(passphrase)).decrypt(str(args["text"]).encode()).decode()
                return {"files": [str(path) for path in unpack(opened, directory)], "changed": True}
            # What opens the copy is of no use in it.
            vault = self._vault() if passphrase else []
            secrets = self._secrets(passphrase)
            copy = VaultLib(secrets).encrypt(pack(directory, vault), secret=secrets[0][1]).decode()
        except (PemError, OSError) as error:
            raise ReleaseError(str(error)) from error
        except AnsibleError as error:
            raise ReleaseError(
                f"the copy was made with another password than the one that is given now, or is damaged. Nothing was written. ({error})"
            ) from error
        about = {"authority": fingerprint(directory), "vault": bool(vault), "made": int(time.time())}
        return {"text": copy, "about": json.dumps(about)}

    def _vault(self) -> list[str]:
        """The vault's passwords of this run, but for the one that everybody knows."""
        known = (Path(constants.CONFIG_FILE).parent if constants.CONFIG_FILE else Path.cwd()) / EXAMPLE
        example = known.read_text(encoding="utf-8").strip() if known.exists() else ""
        found = self._loader._vault.secrets or []  # noqa: SLF001  it alone knows them
        texts = [secret.bytes.decode() for _, secret in found if secret.bytes]
        return [text for text in texts if text != example]

    def _secrets(self, passphrase_file: str) -> list[tuple[str, VaultSecret]]:
        if passphrase_file:
            text = Path(passphrase_file).expanduser().read_text(encoding="utf-8").strip()
            if not text:
                raise ReleaseError(f"{passphrase_file}: found nothing, expected a passphrase. Nothing was done")
            return [("default", VaultSecret(text.encode()))]
        own = self._vault()
        if not own:
            raise ReleaseError(
                f"found no password of a vault but that of {EXAMPLE}, which everybody knows; expected your own (inventories/README.md), "
                "or -e passphrase_file=FILE. Nothing was done"
            )
        return [("default", VaultSecret(text.encode())) for text in own]

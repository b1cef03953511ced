"""Whom PostgreSQL runs as: it refuses root, so root lends it another identity, and opens the state folder to nobody."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agentsite.embedded.errors import StartError


@dataclass(frozen=True)
class Account:
    """`prefix` starts a command as this account; `owner` (uid, gid) must own the database files, None: whoever does."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def take_over(self, path: Path) -> None:
        """Makes the account own a file, or a folder with all that is in it."""
        if self.owner is None or path.stat().st_uid == self.owner[0]:
            return
        for parent, _, names in os.walk(path):
            for name in names:
                os.chown(os.path.join(parent, name), *self.owner, follow_symlinks=False)
            os.chown(parent, *self.owner)
        os.chown(path, *self.owner)


def choose_account(data: Path, postgres: str) -> Account:
    """For an ordinary user itself. For root the first way that works on this machine; StartError if none does."""
    if os.geteuid() != 0 and _works(Account(), postgres, data.parent):
        return Account()
    owner = data.stat().st_uid if data.exists() else os.geteuid()
    namespace = [_namespace()] if owner == os.geteuid() else []
    for account in [*namespace, *(_ordinary_users(owner) if os.geteuid() == 0 else [])]:
        if _works(account, postgres, data.parent):
            return account
    who = "root" if os.geteuid() == 0 else "a user without a name in /etc/passwd"
    raise StartError(f"PostgreSQL cannot run as {who} here: start as an ordinary user, or set DATABASE_URL.")


def _namespace() -> Account:
    """PostgreSQL sees the named user of a user namespace; to the system its processes and files remain ours."""
    ids = [entry.pw_uid for entry in pwd.getpwall() if 0 < entry.pw_uid < 65534] or [65534]
    return Account(("unshare", "--user", f"--map-user={ids[0]}", "--map-group=1", "--"))


def _ordinary_users(owner: int) -> list[Account]:
    """The owner of the data, else the first of postgres and nobody.

    The capability lets it reach its files below folders that only root may enter, such as /root.
    """
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    by_id = {entry.pw_uid: entry for entry in known.values()}
    user = by_id.get(owner) if owner else known.get("postgres") or known.get("nobody")
    if user is None:
        return []
    drop = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=INT")
    reach = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
    ids = (user.pw_uid, user.pw_gid)
    return [Account((*drop, *reach, "--"), ids), Account((*drop, "--"), ids)]


def _works(account: Account, postgres: str, folder: Path) -> bool:
    test = '"$1" --version && test -x "$2" && id -un'  # initdb wants a name
    command = [*account.prefix, "sh", "-c", test, "sh", postgres, str(folder)]
    try:
        return subprocess.run(command, cwd="/", capture_output=True).returncode == 0
    except FileNotFoundError:
        return False

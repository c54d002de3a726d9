"""Who published what: an Ed25519 signature over the digests of versions, and over which of them is current.

The statement that is signed lies in the lock with its signature, so that they come and go as one object. It goes with
the lock into repositories that are pulled, and is lost where somebody builds: what was built is not what was signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import RepositoryError, SignatureError
from builder.repository import lock
from builder.repository.layout import CONFIG
from builder.stores import record
from builder.stores.record import Model, Record, Signed
from builder.triton import model_config
from builder.util.hashing import sha256_if_there

ALGORITHM = "ed25519"
PURPOSE = "build-repo repository 1"
"""In each statement, so that a signature of the same key under something else is none of a repository."""
MAKE_ONE = "make one: openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out public.pem"


def signer(path: Path) -> Any:
    """A private key. Raises SignatureError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except TypeError:
        raise SignatureError(
            f"{path} is locked with a password; give a key without one, in a file of yours alone"
        ) from None
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} is no private key in PEM ({_short(error)}); {MAKE_ONE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is a key of another kind than Ed25519; {MAKE_ONE}")
    return key


def verifier(path: Path) -> Any:
    """A public key. Raises SignatureError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} is no public key in PEM ({_short(error)}); {MAKE_ONE}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{path} is a key of another kind than Ed25519; {MAKE_ONE}")
    return key


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def fingerprint(key: Any) -> str:
    """Of a public key, to tell keys apart in messages."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign(after: Record, ours: Record, before: Record, key: Any) -> Record:
    """`after` with a statement of what is ours, and of what the same key had signed `before` and is still so.

    What others put there without a signature is not vouched for.
    """
    known = _models(before.signed) if _is_signed_by(before.signed, key.public_key()) else {}
    statement: dict[str, Any] = {"purpose": PURPOSE, "id": after.id, "models": {}}
    for name, model in after.models.items():
        vouched = _vouched(model, ours.models.get(name), known.get(name, {}))
        if model.current in vouched["versions"]:
            statement["models"][name] = vouched
    signature = base64.b64encode(key.sign(_canonical(statement))).decode()
    public = {"algorithm": ALGORITHM, "key": fingerprint(key.public_key())}
    return replace(after, signed=public | {"statement": statement, "signature": signature})


def _vouched(model: Model, ours: Model | None, known: dict[str, Any]) -> dict[str, Any]:
    digests = {number: _digest(version) for number, version in model.versions.items()}
    own = {number: _digest(version) for number, version in ours.versions.items()} if ours else {}
    signed = own | dict(known.get("versions", {}))
    same = {number: digest for number, digest in digests.items() if signed.get(number) == digest}
    if ours is None and known.get("current") != model.current:
        same = {}
    return {"role": model.role, "current": model.current, "versions": same}


def _digest(version: record.Version) -> str:
    """Of all that is recorded of a version's files, and of what it calls."""
    return hashlib.sha256(_canonical({"files": version.files, "calls": version.calls})).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _models(signed: Signed | None) -> dict[str, Any]:
    return dict(signed["statement"]["models"]) if signed else {}


def _is_signed_by(signed: Signed | None, key: Any) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        if not signed or signed["statement"]["purpose"] != PURPOSE:
            return False
        key.verify(base64.b64decode(signed["signature"], validate=True), _canonical(signed["statement"]))
    except (InvalidSignature, KeyError, TypeError, ValueError, binascii.Error):
        return False
    return True


def require_statement(signed: Signed | None, key: Any, where: str) -> dict[str, Any]:
    """What the key has signed, by model. Raises SignatureError."""
    if not isinstance(signed, dict) or not signed:
        raise SignatureError(
            f"{where} is not signed; push it with --sign from where it was built. A build, and a push without --sign, "
            "take a signature away"
        )
    if _is_signed_by(signed, key):
        return _models(signed)
    if signed.get("key") != fingerprint(key):
        raise SignatureError(
            f"{where} is signed with another key, {signed.get('key')!s:.40}, than the one to verify it with, "
            f"{fingerprint(key)}; give that one's public key if you trust it"
        )
    raise SignatureError(f"{where} was changed after it had been signed: its signature is not of what it says")


def require_signed(theirs: Record, pins: list[record.Pin], key: Any, where: str) -> None:
    """Raise SignatureError unless all these versions were signed, and those that are current as current."""
    statement = require_statement(theirs.signed, key, where)
    for name, number in pins:
        model, said = theirs.models[name], statement.get(name)
        if said is None:
            raise SignatureError(f"{where}: {name} is not among what was signed; push it with --sign")
        if (model.role, model.current) != (said["role"], said["current"]):
            raise SignatureError(
                f"{where}: the lock says that version {model.current} of {name} is current, and "
                f"{said['current']} was signed"
            )
        if said["versions"].get(number) != _digest(model.versions[number]):
            raise SignatureError(f"{where}: version {number} of {name} is not what was signed")


def require_served(repository: Path, public_key: Path) -> None:
    """Raise SignatureError unless what a repository on this machine serves is what was signed, to the last file.

    RepositoryError where it cannot be read, or its files are not what its lock says.
    """
    key, path = verifier(public_key), repository / lock.FILENAME
    if not path.is_file():
        raise SignatureError(f"{repository} has no {lock.FILENAME}, so that nothing in it is signed; pull it again")
    recorded = lock.read(repository)
    statement = require_statement(_signed_part(path), key, str(repository))
    lock.require_intact(repository)
    for folder in sorted(repository.iterdir()):
        if folder.is_dir():
            _require_model(folder, recorded.get(folder.name), statement.get(folder.name))


def _signed_part(path: Path) -> Signed | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read: {error}") from None
    signed: Signed | None = document.get("signed")
    return signed


def _require_model(folder: Path, known: lock.Model | None, said: dict[str, Any] | None) -> None:
    if known is None or said is None:
        raise SignatureError(f"{folder} is not among what was signed; take it away, or push it with --sign and pull it")
    current = said["current"]
    version = known.versions.get(current)
    if version is None:
        raise SignatureError(f"{folder} lacks version {current}, which was signed as the current one; pull it again")
    own = f"{current}/{CONFIG}"
    beside = version.files.get(own) or version.files.get(CONFIG)
    if sha256_if_there(folder / CONFIG) != beside:
        raise SignatureError(f"{folder / CONFIG} is not that of version {current}, which was signed as the current one")
    calls = _calls(folder / own)
    if _digest(record.Version(version.files, {}, calls)) != said["versions"].get(current):
        raise SignatureError(f"version {current} of {folder} is not what was signed")


def _calls(config: Path) -> dict[str, str]:
    if not config.exists():
        return {}
    return {call.model_name: str(call.model_version) for call in model_config.read(config).ensemble_scheduling.step}

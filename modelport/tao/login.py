"""Login: a key of NVIDIA's NGC, or one of ours, becomes a token. The NGC key is neither kept nor written anywhere."""

import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
from anyio import to_thread
from fastapi import APIRouter, Request

from modelport.domain.key import LABEL, KeySpec
from modelport.domain.verbs import Accounts
from modelport.errors import INTERNAL, NOT_READY, UNAUTHORIZED, ModelportError
from modelport.settings import Settings
from modelport.tao.ids import ORG, Body

router = APIRouter()
NOBODY = uuid.UUID(int=0)
"""The namespace of user ids (nvidia-tao-core, credentials.py)."""
ANONYMOUS = "anonymous"
OURS = "mp-"
TOKEN_S = 86400.0
"""How long a login lasts, as upstream."""
ME = "/v2/users/me"
"""The route of NGC that tells whose key it is (nvidia-tao-core, ngc_utils.get_user_info)."""
TIMEOUT_S = 10.0
AT_A_TIME = 16
"""Questions to NGC; whoever asks for a token is nobody yet, and may be many."""
LONGEST_ANSWER = 1 << 20
LONGEST_KEY = 1000


class Login:
    """Who somebody is, by what is sent to /login."""

    def __init__(self, own: Accounts, settings: Settings) -> None:
        self.own = own
        self.url = settings.tao_ngc_url.rstrip("/")
        self.airgapped = settings.tao_airgapped
        self.asking = 0

    async def __call__(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a login. Raises ModelportError (401; 503 where NGC cannot be asked)."""
        key, org = body.get("ngc_key"), body.get("ngc_org_name", "")
        if self.airgapped and not key:
            name = str(body.get("username") or ANONYMOUS)[:LONGEST_KEY]
            return {"user_id": str(uuid.uuid5(NOBODY, name))}
        if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise _unauthorized("ngc_key must be a key.")
        if not isinstance(org, str) or not ORG.fullmatch(org):
            raise _unauthorized("ngc_org_name must be letters, digits, '-' and '_'.")
        if key.startswith(OURS):
            return await to_thread.run_sync(self._known, key, org)
        if not self.url:
            raise _unauthorized(
                "this Modelport asks no NGC; give one of its own keys (`modelport keys create`) as ngc_key."
            )
        user = await self._ngc_user(key, org)
        return await to_thread.run_sync(self._made, user, org)

    def _known(self, key: str, org: str) -> dict[str, Any]:
        try:
            found = self.own.check_key(key)
        except ModelportError as error:
            if error.kind.status != UNAUTHORIZED.status:
                raise
            raise _unauthorized("this API key is not one that may be used.") from None
        user = found.user or found.name or found.prefix
        return _answer(found.id, key, user, user if "@" in user else "", org)

    def _made(self, user: dict[str, Any], org: str) -> dict[str, Any]:
        number, name, email = (str(user.get(part) or "") for part in ("id", "name", "email"))
        label = next(text for text in (email, name, number, ANONYMOUS) if LABEL.fullmatch(text))
        made = self.own.create_key(
            KeySpec(
                name="tao-login",
                scopes=("infer", "operate"),
                user=label,
                team=org if LABEL.fullmatch(org) else "",
                expires_in_s=TOKEN_S,
            )
        )
        if made.secret is None:
            raise ModelportError("The login could not be completed; try again.", INTERNAL)
        return _answer(number, made.secret, name, email, org)

    async def _ngc_user(self, key: str, org: str) -> dict[str, Any]:
        """Whose key it is, by NGC. Raises ModelportError: 401 where NGC does not know it, or knows of no membership in
        the organisation; 503 where it cannot be asked."""
        if self.asking >= AT_A_TIME:
            raise ModelportError("Many people log in at the moment; try again.", NOT_READY, retry_after_s=5)
        self.asking += 1
        try:
            code, text = await self._me(key)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise ModelportError(
                "NGC cannot be reached to check the key; try again.", NOT_READY, retry_after_s=5
            ) from None
        finally:
            self.asking -= 1
        if code >= 500 or code == 429:
            raise ModelportError("NGC cannot check the key at the moment; try again.", NOT_READY, retry_after_s=30)
        if code != 200:
            raise _unauthorized("Credentials error: Invalid NGC_PERSONAL_KEY")
        try:
            user: Any = msgspec.json.decode(text)["user"]
            number = user["id"]
            orgs = {str(role["org"]["name"]) for role in user.get("roles") or () if role.get("org")}
        except (msgspec.DecodeError, LookupError, TypeError, AttributeError, RecursionError):
            number, user, orgs = None, {}, set[str]()
        if not number:
            raise _unauthorized("Credentials error: Unknown NGC user ID")
        if org not in orgs:
            raise _unauthorized(f"Credentials error: the key's user is no member of {org}")
        return user

    async def _me(self, key: str) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {key}", "accept": "application/json", "accept-encoding": "identity"}
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=True) as client,
            client.stream("GET", f"{self.url}{ME}", headers=headers) as answer,  # a redirect is not followed
        ):
            text = bytearray()
            async for part in answer.aiter_bytes():
                text += part
                if len(text) > LONGEST_ANSWER:
                    return answer.status_code, b""
            return answer.status_code, bytes(text)


@router.post("/v1/login")
@router.post("/v2/login")
async def login(body: Body, request: Request) -> dict[str, Any]:
    return await request.app.state.login(body)


def _answer(number: str, token: str, name: str, email: str, org: str) -> dict[str, Any]:
    return {
        "user_id": str(uuid.uuid5(NOBODY, number)),
        "token": token,
        "user_name": name,
        "user_email": email,
        "org_name": org,
    }


def _unauthorized(why: str) -> ModelportError:
    return ModelportError(f"Unauthorized: {why}", UNAUTHORIZED)

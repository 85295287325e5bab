"""The REST API: each route hands JSON to one Verb and its answer back. Control's unix socket only."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from modelport.control.access import PREFIX, caller, check
from modelport.control.caller import Caller
from modelport.control.control import Control
from modelport.control.rest_accounts import add_account_routes
from modelport.domain.service import InfoView, PlanView, ServiceView
from modelport.domain.spec import parse_file, parse_spec
from modelport.errors import INTERNAL, INVALID, NOT_FOUND, ModelportError
from modelport.lookups import Lookups


def make_app(control: Control) -> FastAPI:
    """The app, over a Control. Endpoints are plain functions: FastAPI runs them in threads, as Control wants."""
    app = FastAPI(
        title="Modelport",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(check)],
    )

    @app.exception_handler(ModelportError)
    async def ours(_request: Request, error: ModelportError) -> JSONResponse:
        return _answer(error)

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> JSONResponse:  # the server logs what it was
        return _answer(ModelportError("The control process failed at this; its log has the reason.", INTERNAL))

    @app.exception_handler(HTTPException)
    async def theirs(_request: Request, error: HTTPException) -> JSONResponse:
        kind = NOT_FOUND if error.status_code == 404 else INVALID
        words = {404: "The control API has no such route.", 405: "The control API does not take this method there."}
        sentence = words.get(error.status_code, "The request's body is not JSON that can be read.")
        return _answer(ModelportError(sentence, kind), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["loc"][0] == "body":
            return _answer(ModelportError("The request's body must be a JSON object, sent as application/json."))
        where = ".".join(str(part) for part in first["loc"][1:])
        return _answer(ModelportError(f"{where} is wrong: {str(first['msg']).lower()}.", param=where))

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get(f"{PREFIX}/info")
    def info() -> InfoView:
        return control.info()

    planning = Lookups()

    @app.post(f"{PREFIX}/plan")
    async def plan(body: dict[str, Any]) -> PlanView:
        return await planning(lambda: control.plan(parse_spec(body)))

    @app.post(f"{PREFIX}/offers")
    async def offers(body: dict[str, Any]) -> list[PlanView]:
        return await planning(lambda: control.offers(parse_spec(body)))

    @app.get(f"{PREFIX}/services")
    def services() -> list[ServiceView]:
        return control.list()

    @app.post(f"{PREFIX}/services")
    async def start(body: dict[str, Any], who: Annotated[Caller, Depends(caller)]) -> ServiceView:
        return await planning(lambda: control.by(who).start(parse_spec(body)))

    @app.put(f"{PREFIX}/services")
    async def apply(body: dict[str, Any], who: Annotated[Caller, Depends(caller)]) -> list[ServiceView]:
        return await planning(lambda: control.by(who).apply(parse_file(body, "the request")))

    @app.get(f"{PREFIX}/services/{{service}}")
    def status(service: str) -> ServiceView:
        return control.status(service)

    @app.delete(f"{PREFIX}/services/{{service}}")
    def remove(service: str) -> ServiceView:
        return control.remove(service)

    @app.post(f"{PREFIX}/services/{{service}}/stop")
    def stop(service: str) -> ServiceView:
        return control.stop(service)

    @app.post(f"{PREFIX}/services/{{service}}/restart")
    async def restart(service: str) -> ServiceView:
        return await planning(lambda: control.restart(service))

    @app.post(f"{PREFIX}/services/{{service}}/wake", status_code=202)
    def wake(service: str) -> dict[str, str]:
        control.wake(service)
        return {"status": "waking"}

    @app.get(f"{PREFIX}/services/{{service}}/logs")
    async def logs(
        service: str, tail: Annotated[int, Query(ge=0, le=100_000)] = 100, follow: bool = False
    ) -> StreamingResponse:
        stream = control.lines(service, tail, follow)  # an unknown service is said here, before the answer begins
        return StreamingResponse(_text(stream), media_type="text/plain; charset=utf-8")

    add_account_routes(app, control)
    return app


def _answer(error: ModelportError, status: int | None = None) -> JSONResponse:
    retry = error.retry_after()
    headers = {"retry-after": retry} if retry else None
    return JSONResponse(error.body(), status or error.kind.status, headers=headers)


async def _text(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield line.encode(errors="replace") + b"\n"

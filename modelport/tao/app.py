"""The TAO API: NVIDIA's routes for inference microservices over Verbs, below `/api` of control. A translator: foreign
request to Spec, Service to foreign answer. Inference itself is the gateway's, straight to the engine."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from modelport.domain.verbs import Verbs
from modelport.errors import INTERNAL, INVALID, METHOD_NOT_ALLOWED, NOT_FOUND, ModelportError
from modelport.lookups import Lookups
from modelport.settings import Settings
from modelport.tao import experiments, jobs, login, microservices, workspaces
from modelport.tao.errors import error_rsp

ROUTERS = (login.router, microservices.router, jobs.router, workspaces.router, experiments.router)


def make_app(acting: Callable[[Request], Verbs], own: Verbs, settings: Settings) -> FastAPI:
    """The app. `acting` gives Verbs in the caller's name or raises ModelportError (403); `own` makes keys at logins."""
    app = FastAPI(title="TAO API", redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.acting = acting
    app.state.lookups = Lookups()
    app.state.login = login.Login(own, settings)

    @app.exception_handler(ModelportError)
    async def ours(_request: Request, error: ModelportError) -> JSONResponse:
        return error_rsp(error)

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> JSONResponse:  # the server logs what it was
        return error_rsp(ModelportError("The server failed at this; its log has the reason.", INTERNAL))

    @app.exception_handler(HTTPException)
    async def theirs(_request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:
            return error_rsp(ModelportError("The TAO API does not take this method there.", METHOD_NOT_ALLOWED))
        sentence = "The TAO API of Modelport has no such route: it serves models, and trains none."
        kind = NOT_FOUND if error.status_code == 404 else INVALID
        return error_rsp(ModelportError(sentence, kind), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return error_rsp(ModelportError(f"{where} is wrong: {str(first['msg']).lower()}."))

    for router in ROUTERS:
        app.include_router(router)
    return app

"""The HTTP interface: a video in, the prediction out as JSON."""

import shutil
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stmulnet.errors import BusyError
from stmulnet.serving.gate import error_headers
from stmulnet.serving.service import Service, ServiceError
from stmulnet.serving.uploads import shown_name

MAX_FIELDS = 4


def add_api(app: FastAPI, service: Service) -> None:
    """Add ``/api/predict``, ``/api/models``, ``/api/health``, and the videos of the page, to an application."""

    @app.exception_handler(ServiceError)
    async def answer_error(_request: Request, error: ServiceError) -> JSONResponse:
        headers = {name.decode(): value.decode() for name, value in error_headers(error.status)}
        return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)

    @app.post("/api/predict")
    async def predict(request: Request) -> JSONResponse:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ServiceError("send a form (multipart/form-data) with the file as its field 'video'", 415)
        try:
            service.turns.check()  # before the file comes
        except BusyError as error:
            raise ServiceError(str(error), 503) from error
        try:
            async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
                video, network = form.get("video"), form.get("network")
                if not isinstance(video, UploadFile) or isinstance(network, UploadFile):
                    raise ServiceError(_what_is_missing(video), 400)
                return JSONResponse(await run_in_threadpool(_answer, service, video, network))
        except ClientDisconnect:  # or the gate has answered already
            return JSONResponse({"error": "the upload broke off"}, status_code=400)
        except HTTPException as error:  # from the parser of the form
            raise ServiceError(f"the form cannot be read: {error.detail}", error.status_code) from error

    @app.get("/api/models")
    async def models() -> dict[str, Any]:
        return {"networks": [_described(service, name) for name in service.predictors]}

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/clips/{name}")
    async def clip(name: str) -> FileResponse:
        path = service.uploads.clip(name)
        if path is None:
            raise ServiceError("this video is no longer here; send it again", 404)
        return FileResponse(path)


def _answer(service: Service, video: UploadFile, network: str | None) -> dict[str, Any]:
    name = shown_name(video.filename)
    with service.uploads.file(name) as path:
        _write(video, path)
        return service.look(path, name, network).prediction.to_dict()


def _write(video: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(video.file, file)


def _what_is_missing(video: object) -> str:
    if video is None:
        return "the form has no field 'video' with the file, as in: curl -F video=@clip.mp4"
    return "the field 'video' must be the file itself (curl -F video=@clip.mp4): addresses and paths are not read"


def _described(service: Service, name: str) -> dict[str, Any]:
    predictor = service.predictors[name]
    return {
        "name": name,
        "classes": len(predictor.class_names),
        "streams": list(predictor.config.streams),
        "preset": predictor.preset,
    }

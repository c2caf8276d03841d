"""`stmulnet serve`: a web page and an HTTP interface that recognise actions in videos."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stmulnet.commands.predictor_options import make_predictor
from stmulnet.console import notice
from stmulnet.errors import ConfigError
from stmulnet.flow.estimate import estimate_flow
from stmulnet.predictor.presets import Preset
from stmulnet.serving.app import LOOPBACK, check_installed, create_app, listening, running
from stmulnet.serving.gate import Login
from stmulnet.serving.limits import Limits
from stmulnet.serving.service import Service

PASSWORD_VARIABLE = "STMULNET_PASSWORD"


@dataclass(frozen=True)
class ServeSummary:
    """What `serve` did: it was stopped, which is how it ends."""

    address: str
    exit_code: int = 0


def serve(
    *,
    weights: Path | list[Path],
    host: str = "127.0.0.1",
    port: int = 7860,
    user: str | None = None,
    password_file: Path | None = None,
    preset: Preset = "paper",
    frames: int | None = None,
    flow_backend: str | None = None,
    jobs: int = 1,
    waiting: int = Limits.waiting,
    max_upload_mb: int = Limits.upload_mb,
    max_seconds: int = Limits.seconds,
    max_frames: int = Limits.frames,
    max_megapixels: float = Limits.megapixels,
    no_examples: bool = False,
    threads: int | None = None,
    device: str = "auto",
) -> ServeSummary:
    """Serve a web page and an HTTP interface that recognise actions in videos, until Ctrl-C.

    Args:
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file;
            or several to choose from, such as "[one.safetensors, two.safetensors]".
        host: Interface to listen on; the default is reached from this machine alone, 0.0.0.0 from everywhere.
        port: Port to listen on; 0 takes a free one. The address is printed.
        user: Ask for this user name, and the password in the variable STMULNET_PASSWORD or in --password-file.
        password_file: File whose first line is the password.
        preset: paper is the official protocol; fast takes fewer frames, DIS flow, bf16 where the processor has it, and
            no mirrored view.
        frames: Frames sampled per video, in place of the preset's.
        flow_backend: Implementation of the optical flow, in place of the preset's: tvl1, tvl1-torch, opencv or dis.
        jobs: Predictions at the same time.
        waiting: Predictions that may wait for their turn; further ones are sent away.
        max_upload_mb: Size of a video file, in megabytes (2^20 bytes).
        max_seconds: Length of a video.
        max_frames: Number of frames of a video.
        max_megapixels: Size of a frame, in millions of pixels.
        no_examples: Do not make videos to try the page with.
        threads: Threads for the flow; one per processor core by default.
        device: auto, cpu, cuda or cuda:N, for the network and for tvl1-torch.

    Returns:
        Where it was served.
    """
    check_installed()
    login = login_of(user, password_file)
    limits = _limits(
        waiting=waiting,
        max_upload_mb=max_upload_mb,
        max_seconds=max_seconds,
        max_frames=max_frames,
        max_megapixels=max_megapixels,
    )
    files = [weights] if isinstance(weights, Path) else weights
    with listening(host, port) as (listener, address):  # a port that is taken is said before networks are read
        options: dict[str, Any] = {"preset": preset, "frames": frames, "flow_backend": flow_backend}
        options |= {"device": device, "threads": threads}
        predictors = {name: make_predictor(path, **options) for name, path in network_names(files).items()}
        with Service(predictors, limits=limits, jobs=jobs) as service:
            hosts = None if host not in LOOPBACK else LOOPBACK
            app = create_app(service, login=login, hosts=hosts, examples=not no_examples)
            for backend in {predictor.flow_backend for predictor in predictors.values() if predictor.flow_record}:
                estimate_flow(np.zeros((2, 32, 32), np.uint8), backend=backend, device=device)  # compiles the kernel
            with running(app, listener):
                if host not in LOOPBACK and login is None:
                    notice("note: whoever reaches this machine can use the server; --user asks for a password")
                print(f"serving {', '.join(predictors)} at {address} (Ctrl-C ends)", flush=True)
                try:
                    threading.Event().wait()
                except KeyboardInterrupt:  # Ctrl-C or SIGTERM: how a server ends
                    notice("stmulnet serve: stopping, after the prediction that is running, if there is one")
    return ServeSummary(address)


def _limits(**options: Any) -> Limits:
    """Limits by the names that they have as options; so have errors."""
    try:
        return Limits(**{name.removeprefix("max_"): value for name, value in options.items()})
    except ConfigError as error:
        prefix = "" if str(error).startswith("waiting") else "max_"
        raise ConfigError(f"{prefix}{error}") from error


def network_names(files: list[Path]) -> dict[str, Path]:
    """Names by which users choose among weight files: those of the files, or of the folders of ``model.safetensors``.

    Raises:
        ConfigError: Two files have the same name.
    """
    names: dict[str, Path] = {}
    for path in files:
        name = path.stem if path.stem != "model" else path.absolute().parent.name
        if name in names:
            raise ConfigError(f"{names[name]} and {path} would both be called {name}; rename or copy one of them")
        names[name] = path
    return names


def login_of(user: str | None, password_file: Path | None) -> Login | None:
    """User and password, which is in a file or the environment: options are seen by everybody on the machine.

    Raises:
        ConfigError: One of them is missing.
    """
    if user is None:
        if password_file is not None:
            raise ConfigError("--password-file needs a --user")
        return None
    if not user or ":" in user:
        raise ConfigError(f"--user must be a name without colon, got {user!r}")
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if password_file is not None:
        try:
            password = password_file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"--password-file {password_file} cannot be read: {error}") from error
    if not password:
        raise ConfigError(f"--user needs a password: set the variable {PASSWORD_VARIABLE}, or give --password-file")
    return Login(user, password)

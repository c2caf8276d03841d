"""The web page: choose or record a video, see what the network says and looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from stmulnet.serving import panels
from stmulnet.serving.examples import Example
from stmulnet.serving.preview import playable, write_preview
from stmulnet.serving.service import Service, ServiceError
from stmulnet.serving.uploads import shown_name

TITLE = "stmulnet: what happens in this video?"
FONTS = ["system-ui", "sans-serif"]  # Gradio's own themes fetch theirs from elsewhere
RECORDING = "recording"
CAMERA = {"width": {"ideal": 640}, "height": {"ideal": 480}}
_EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class Chosen:
    """The video that a visitor has chosen.

    Attributes:
        path: The file.
        name: What its sender calls it.
        clip: Name of the file that the browser plays.
    """

    path: Path
    name: str
    clip: str


class Page:
    """The page of a service.

    Args:
        service: Networks, limits, turns and temporary files.
        examples: Videos to choose from.
    """

    def __init__(self, service: Service, examples: list[Example]) -> None:
        self._service = service
        self._examples = examples

    def build(self) -> gr.Blocks:
        """Lay out the page and connect its parts."""
        page: gr.Blocks
        with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
            gr.HTML(panels.header(self._service.predictors))
            chosen = gr.State(None)
            with gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=320):
                    file, camera, gallery = self._sources()
                    names = list(self._service.predictors)
                    network = gr.Radio(names, value=names[0], label="Network", visible=len(names) > 1)
                    start = gr.Button("Recognise the action", variant="primary", interactive=False, elem_id="start")
                with gr.Column(scale=3, min_width=320):
                    player = gr.HTML(panels.player(None), elem_id="player")
            answer = gr.HTML(elem_id="answer")
            seen = gr.HTML(elem_id="seen")
            shown = [chosen, player, start, answer, seen]
            file.upload(self.choose_file, file, [*shown, file], **_waiting(player))
            file.clear(self.forget, None, shown, **_EVENT)
            camera.stop_recording(self.choose_recording, camera, shown, **_waiting(player))
            if gallery is not None:
                gallery.select(self.choose_example, None, shown, **_waiting(player))
            start.click(
                self.recognise,
                [chosen, network],
                [answer, seen],
                concurrency_limit=self._service.jobs,
                concurrency_id="networks",
                **_waiting(answer),
            )
            page.unload(self.leave)
        page.queue(max_size=self._service.limits.waiting + self._service.jobs)
        return page

    def _sources(self) -> tuple[gr.File, gr.Video, gr.Gallery | None]:
        gallery = None
        with gr.Tabs():
            with gr.Tab("Upload"):
                file = gr.File(label="Video file", elem_id="file", height=170)
            with gr.Tab("Record"):
                camera = gr.Video(
                    sources=["webcam"],
                    webcam_options=gr.WebcamOptions(constraints={"video": CAMERA}),
                    include_audio=False,
                    label="Camera",
                    height=240,
                    elem_id="camera",
                )
                # The file as it was recorded: Gradio would run a program over it to mirror it and take its sound out.
                camera.preprocess = _path_of
            if self._examples:
                with gr.Tab("Examples"):
                    gr.HTML('<p class="st-soft">Made videos: which shape makes which motion?</p>')
                    gallery = gr.Gallery(
                        [(example.picture, example.label) for example in self._examples],
                        columns=3,
                        height="auto",
                        allow_preview=False,
                        interactive=False,
                        show_label=False,
                        buttons=[],
                        elem_id="examples",
                    )
        return file, camera, gallery

    def choose_file(self, path: str, request: gr.Request) -> list[Any]:
        """Take an uploaded file; if it is refused, the place for one is free again."""
        values = self._choose(Path(path), shown_name(Path(path).name), request)
        return [*values, gr.skip() if values[0] else None]

    def choose_recording(self, path: str | None, request: gr.Request) -> list[Any]:
        """Take what the camera recorded."""
        return self._choose(Path(path), RECORDING, request) if path else self.forget(request)

    def choose_example(self, event: gr.SelectData) -> list[Any]:
        """Take one of the examples."""
        example = self._examples[event.index]
        return _shown(Chosen(example.video, example.label, example.video.name), "example")

    def forget(self, request: gr.Request) -> list[Any]:
        """Take no video."""
        self.leave(request)
        return _shown(None)

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visitor who has left."""
        self._service.uploads.release(request.session_hash or "")

    def recognise(
        self,
        chosen: Chosen | None,
        network: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 # Gradio's way
    ) -> Iterator[tuple[str, str]]:
        """Answer, then show what the network looked at."""
        if chosen is None:
            yield panels.problem("Choose a video first."), ""
            return
        try:
            progress(0, desc="Waiting for the network")
            prediction = self._service.predict(chosen.path, chosen.name, network)
            answer = panels.answer(prediction, network)
            yield answer, ""
            prepared = self._service.prepare(chosen.path, chosen.name, network)
            yield answer, panels.seen(prepared)
        except ServiceError as error:
            yield panels.problem(str(error)), ""

    def _choose(self, path: Path, name: str, request: gr.Request) -> list[Any]:
        """Check a file and see that the browser can play it."""
        uploads, session = self._service.uploads, request.session_hash or ""
        clip = uploads.new_path(".mp4")
        try:
            info = self._service.check(path, name)
            with self._service.words_for(path, name):
                if playable(path, info):
                    clip = uploads.adopt(path)
                else:
                    write_preview(path, info, clip)
        except ServiceError as error:
            path.unlink(missing_ok=True)
            return _shown(None, problem=str(error))
        uploads.hold(session, path, clip)
        length = f"{info.duration_s:.1f} s, " if info.duration_s else ""
        return _shown(Chosen(path, name, clip.name), f"{length}{info.width}x{info.height} pixels")


def _path_of(payload: Any) -> str | None:
    return payload.path if payload else None


def _waiting(component: gr.HTML) -> dict[str, Any]:
    """Options of an event that shows its progress at one component."""
    return {**_EVENT, "show_progress": "full", "show_progress_on": component}


def _shown(chosen: Chosen | None, facts: str = "", problem: str | None = None) -> list[Any]:
    """Values of: chosen, player, start button, answer, seen."""
    clip = f"clips/{chosen.clip}" if chosen else None
    player = panels.player(clip, chosen.name if chosen else "", facts, problem)
    return [chosen, player, gr.Button(interactive=chosen is not None), "", ""]

"""The web page: choose or record a video, see what the network says and looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from stmulnet.serving import panels
from stmulnet.serving.examples import SECONDS, Example
from stmulnet.serving.preview import playable, write_preview
from stmulnet.serving.service import Service, ServiceError, Tell
from stmulnet.serving.uploads import shown_name

TITLE = "stmulnet: what happens in this video?"
FONTS = ["system-ui", "sans-serif"]  # Gradio's own themes fetch theirs from elsewhere
RECORDING = "recording"
CAMERA = {"width": {"ideal": 640}, "height": {"ideal": 480}}
CHOOSE = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("click", {number: Number(button.dataset.number)});
});
"""
_EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class Chosen:
    """The video that a visitor has chosen.

    Attributes:
        path: The file.
        name: What its sender calls it.
        clip: Name of the file that the browser plays.
        facts: What else is known about it.
        seconds: Its length.
    """

    path: Path
    name: str
    clip: str
    facts: str
    seconds: float


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
                    player = gr.HTML(panels.no_video(), elem_id="player")
                    time = gr.HTML(elem_id="time")
            answer = gr.HTML(elem_id="answer")
            seen = gr.HTML(elem_id="seen")
            shown = [chosen, player, start, time, answer, seen]
            file.upload(self.choose_file, file, [*shown, file], **_waiting(player))
            file.clear(self.forget, None, shown, **_EVENT)
            camera.stop_recording(self.choose_recording, camera, shown, **_waiting(player))
            if gallery is not None:
                gallery.click(self.choose_example, None, shown, **_waiting(player))
            start.click(
                self.recognise,
                [chosen, network],
                [time, answer, seen],
                concurrency_limit=self._service.jobs,
                concurrency_id="networks",
                **_waiting(answer),
            )
            page.unload(self.leave)
        page.queue(max_size=self._service.limits.waiting + self._service.jobs)
        return page

    def _sources(self) -> tuple[gr.File, gr.Video, gr.HTML | None]:
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
                    gallery = gr.HTML(panels.gallery(self._examples), js_on_load=CHOOSE, elem_id="examples")
        return file, camera, gallery

    def choose_file(self, path: str, request: gr.Request) -> list[Any]:
        """Take an uploaded file; if it is refused, the place for one is free again."""
        values = self._choose(Path(path), shown_name(Path(path).name), request)
        return [*values, gr.skip() if values[0] else None]

    def choose_recording(self, path: str | None, request: gr.Request) -> list[Any]:
        """Take what the camera recorded."""
        return self._choose(Path(path), RECORDING, request) if path else self.forget(request)

    def choose_example(self, event: gr.EventData) -> list[Any]:
        """Take one of the examples."""
        example = self._examples[event.number]
        return _shown(Chosen(example.video, example.label, example.video.name, "made by a program", SECONDS))

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
    ) -> Iterator[tuple[str, str, str]]:
        """Answer, then show what the network looked at: values of time, answer, seen."""
        if chosen is None:
            yield "", panels.problem("Choose a video first."), ""
            return
        predictor = self._service.predictor(network)
        tell: Tell = lambda share, doing: progress(share, desc=doing)  # noqa: E731
        try:
            look = self._service.look(chosen.path, chosen.name, network, tell=tell)
            answer = panels.answer(look.prediction, network)
            yield "", answer, panels.seen(look.prepared, predictor.model)
            closer = self._service.look_closer(look, chosen.name, network)
        except ServiceError as error:
            yield "", panels.problem(str(error)), ""
            return
        time = panels.over_time(closer.moments, predictor.class_names, look.prediction.num_frames)
        yield time, answer, panels.seen(look.prepared, predictor.model, closer.gates)

    def _choose(self, path: Path, name: str, request: gr.Request) -> list[Any]:
        """Check a file and see that the browser can play it."""
        uploads = self._service.uploads
        clip = uploads.new_path(".mp4")
        try:
            measured = self._service.check(path, name)
            with self._service.words_for(path, name):
                if playable(path, measured.info):
                    clip = uploads.adopt(path)
                else:
                    write_preview(path, measured.info, clip)
        except ServiceError as error:
            uploads.discard(path)
            return _shown(None, problem=str(error))
        uploads.hold(request.session_hash or "", path, clip)
        facts = (
            f"{measured.seconds:.1f} s, {measured.num_frames} frames of {measured.info.width}x{measured.info.height}"
        )
        return _shown(Chosen(path, name, clip.name, facts, measured.seconds))


def _path_of(payload: Any) -> str | None:
    return payload.path if payload else None


def _waiting(component: gr.HTML) -> dict[str, Any]:
    """Options of an event that shows its progress at one component."""
    return {**_EVENT, "show_progress": "full", "show_progress_on": component}


def _shown(chosen: Chosen | None, problem: str | None = None) -> list[Any]:
    """Values of: chosen, player, start button, time, answer, seen."""
    player = panels.no_video(problem)
    if chosen:
        player = panels.player(f"clips/{chosen.clip}", chosen.name, chosen.facts, chosen.seconds)
    return [chosen, player, gr.Button(interactive=chosen is not None), "", "", ""]

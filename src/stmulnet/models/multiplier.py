"""The two-stream network of the paper (figure 3): motion gates appearance at every stage.

The other connections that the authors' script knows (sums, from appearance to motion, both ways) differ in `stage`.

Axes: N videos, T frames (folded: N*T), W windows, C channels, H x W pixels, h x w positions, K classes.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stmulnet.constants import FLOW_CHANNELS, FLOW_ZERO_LEVEL, RGB_MEAN
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.config import STAGES, ModelConfig
from stmulnet.models.fusion import Gate
from stmulnet.models.layers import Layer, modules_by_name, official_layers
from stmulnet.models.resnet import Head, Stream, Unit, run_units
from stmulnet.models.temporal import InsertedTemporalConv

RGB_CHANNELS = 3
INPUTS: dict[str, Literal["rgb", "flow"]] = {"appearance": "rgb", "motion": "flow"}  # what a stream sees


class TwoStreamOutput(NamedTuple):
    """Raw logits of each stream; a single-stream network leaves the other stream's fields None.

    Attributes:
        appearance: (N, K), averaged over positions, then windows.
        motion: (N, K), likewise.
        fused: (N, K), the mean of the streams.
        appearance_map: (N, K, W, h, w) before averaging: what losses and protocol use.
        motion_map: (N, K, W, h, w), likewise.
    """

    appearance: Tensor | None
    motion: Tensor | None
    fused: Tensor
    appearance_map: Tensor | None
    motion_map: Tensor | None


class Network(nn.Module):
    """What every network shares: configuration, class names, the means it subtracts, checked inputs."""

    rgb_mean: Tensor
    rgb_std: Tensor
    flow_mean: Tensor
    flow_std: Tensor

    # The parts of `forward` in their order: what one gives is what the next one takes. All of them work frame by frame,
    # but for second_units and heads, so that `stmulnet.models.sharing` can run them on some frames of a clip.
    stem: Callable[..., Any]
    first_units: Callable[..., Any]  # of a stage, with the connection behind them
    second_units: Callable[..., Any]  # those with the convolutions over time
    last_units: Callable[..., Any]
    heads: Callable[..., TwoStreamOutput]

    def __init__(self, config: ModelConfig, class_names: list[str] | None = None) -> None:
        super().__init__()
        if class_names is not None and len(class_names) != config.num_classes:
            raise ConfigError(
                f"{len(class_names)} class names for {config.num_classes} classes: one for each is needed"
            )
        if class_names is not None and len(set(class_names)) < len(class_names):
            twice = sorted({name for name in class_names if class_names.count(name) > 1})
            raise ConfigError(f"class names must differ, {', '.join(map(repr, twice[:3]))} occur more than once")
        self.config = config
        self.class_names = class_names
        self.metadata: dict[str, Any] = {}  # preprocessing, flow record, training: travels with the weights
        self.folded = False  # whether BatchNorm is part of the convolutions: `stmulnet.models.folding`
        self.fused = False  # whether layers are fused: `stmulnet.models.optimize`
        self.recompute_stages = False  # in training: compute a stage anew for its gradients, to save memory
        # Deviation D1: officially the loader subtracts the means. Here they travel with the weights they belong to.
        # The official nets divide by nothing; weights in torchvision's form need a standard deviation.
        self.register_buffer("rgb_mean", torch.tensor(RGB_MEAN))
        self.register_buffer("rgb_std", torch.ones(RGB_CHANNELS))
        self.register_buffer("flow_mean", torch.full((FLOW_CHANNELS,), float(FLOW_ZERO_LEVEL)))
        self.register_buffer("flow_std", torch.ones(FLOW_CHANNELS))

    def finish(self) -> None:
        """Draw the random start and choose the memory format; called once all layers exist."""
        if self.rgb_mean.is_meta:  # weights will come from a file
            return
        # Deviation D2: officially both streams are trained beforehand, from ImageNet; only the classifier is random.
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not isinstance(module, InsertedTemporalConv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for head in (module for module in self.modules() if isinstance(module, Head)):
            nn.init.normal_(head.fc.weight, std=0.01)  # official: 0.01 * randn (cnn_ucf101_spatial.m)
        for unit in (module for module in self.modules() if isinstance(module, Unit)):
            # A unit starts as its shortcut (Goyal et al. 2017).
            nn.init.zeros_(unit.last_bn.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's hints lack the keyword alone

    def fold(self, clips: Tensor, what: Literal["rgb", "flow"]) -> Tensor:
        """(N, T, C, H, W) uint8 or float 0..255 to (N*T, C, H, W), normalised, channels_last."""
        mean, std = (self.rgb_mean, self.rgb_std) if what == "rgb" else (self.flow_mean, self.flow_std)
        x = clips.flatten(0, 1).to(mean.dtype) - mean[:, None, None]  # before channels_last: planes are much faster
        if not self.fused:  # there, conv1 divides
            x = x / std[:, None, None]
        return x.contiguous(memory_format=torch.channels_last)

    def check(self, *clips: Tensor) -> None:
        """Refuse what are no clips of the network's streams.

        Raises:
            ConfigError: Says what is allowed.
        """
        names = [INPUTS[stream] for stream in self.config.streams]
        for name, clip in zip(names, clips, strict=True):
            channels = RGB_CHANNELS if name == "rgb" else FLOW_CHANNELS
            if not isinstance(clip, Tensor):
                raise ConfigError(f"{name} must be a torch tensor (N, T, {channels}, H, W), got {type(clip).__name__}")
            if clip.ndim != 5 or clip.shape[2] != channels:
                raise ConfigError(f"{name} must have the shape (N, T, {channels}, H, W), got {tuple(clip.shape)}")
            if clip.shape[1] < (least := self.config.min_frames):
                raise ConfigError(f"{name} has {clip.shape[1]} frames, the network needs {least} or more")
        first, *others = [(*clip.shape[:2], *clip.shape[3:]) for clip in clips]
        if any(other != first for other in others):  # compared, not hashed: while it is exported, sizes are symbols
            shapes = " and ".join(f"{name} {tuple(clip.shape)}" for name, clip in zip(names, clips, strict=True))
            raise ConfigError(f"{shapes} must agree in all but channels")
        self.config.check_size(*clips[0].shape[3:])

    def check_savable(self, path: Path) -> None:
        """Refuse to save what no file can hold.

        Raises:
            CheckpointError: BatchNorm is folded.
        """
        if self.folded:
            raise CheckpointError(
                f"{path}: BatchNorm is folded into the convolutions of this network: save the one it was made from"
            )

    def run_stage(self, stage: Callable[..., Any], *inputs: Any) -> Any:
        """The outputs of a stage; with ``recompute_stages`` nothing inside it is kept for the backward pass."""
        if self.recompute_stages and self.training:
            return checkpoint(stage, *inputs, use_reentrant=False, preserve_rng_state=False)  # stages draw nothing
        return stage(*inputs)

    def layer_names(self) -> list[str]:
        """Official names of the layers, in the order of the authors' files.

        `activations` also knows the names that the files give to the variables these layers make.
        """
        return [] if self.fused else [layer.name for layer in self._layers()]

    def _layers(self) -> list[Layer]:
        layers = official_layers(self, self.config)
        if self.folded:  # what stands before a BatchNorm is never computed
            before_norm = {layer.inputs[0] for layer in layers if layer.type == "BatchNorm"}
            layers = [layer for layer in layers if layer.output not in before_norm]
        return layers

    def activations(self, *clips_and_names: Any, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs of layers by official name, e.g. ``res2a_relu_spatial_sum``; `layer_names` lists them.

        Args:
            *clips_and_names: What `forward` takes, then the list of names: layers, or variables of the official files.
            names: The list of names, if not given last.

        Returns:
            (N, T', C, h, w) per name; T' counts windows behind the temporal pooling.

        Raises:
            ConfigError: Other clips, a name that is no layer, or a network of `optimize`.

        Example:
            >>> model.activations(rgb, flow, ["res2a_spatial", "res5c_relu_pool_temporal1"])  # doctest: +SKIP
        """
        clips = list(clips_and_names)
        if names is None and clips and not isinstance(clips[-1], Tensor):
            names = clips.pop()
        wanted = [INPUTS[stream] for stream in self.config.streams]
        if len(clips) != len(wanted) or not isinstance(names, (list, tuple)):
            raise ConfigError(f"activations takes {', '.join(wanted)} and a list of layer names")
        if self.fused:
            raise ConfigError("the layers of an optimised network are not computed apart: ask the one it was made from")
        paths = self._module_paths(names)
        videos = clips[0].shape[0] if isinstance(clips[0], Tensor) else 0
        found: dict[str, Tensor] = {}

        def keep(name: str, output: Tensor) -> None:  # a copy: the next layer may work in place
            found[name] = output.clone().reshape(videos, -1, *output.shape[1:])

        hooks = [
            self.get_submodule(path).register_forward_hook(lambda _, __, output, name=name: keep(name, output))
            for name, path in paths.items()
        ]
        try:
            self(*clips)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: found[name] for name in names}

    def _module_paths(self, names: Sequence[str]) -> dict[str, str]:
        known = modules_by_name(self._layers())
        for name in names:
            if name not in known:
                near = [other for other in known if isinstance(name, str) and other.startswith(name)][:3]
                near = near or difflib.get_close_matches(str(name), known, n=3, cutoff=0.8)
                advice = f"; near: {', '.join(near)}" if near else ""
                advice += "; convolutions before a BatchNorm are folded with it" if self.folded else ""
                raise ConfigError(f"this network has no layer {name!r}{advice} (model.layer_names() lists them)")
        return {name: known[name] for name in names}


class MultiplierNetwork(Network):
    """Two streams; with ``config.fusion`` the motion stream gates the appearance stream."""

    def __init__(self, config: ModelConfig, class_names: list[str] | None = None) -> None:
        super().__init__(config, class_names)
        if config.appearance is None or config.motion is None:
            raise ConfigError("a two-stream network needs both streams")
        self.appearance = Stream(RGB_CHANNELS, config.appearance, config)
        self.motion = Stream(FLOW_CHANNELS, config.motion, config)
        self.into_appearance = make_gates(config, config.fusion is not None and config.fusion.into_appearance)
        self.into_motion = make_gates(config, config.fusion is not None and config.fusion.into_motion)
        self.gate_whole_state = config.fusion is not None and config.fusion.target == "state"
        self.finish()

    def forward(self, rgb: Tensor, flow: Tensor) -> TwoStreamOutput:
        """Score clips.

        Args:
            rgb: (N, T, 3, H, W), uint8 or float, 0..255.
            flow: (N, T, 20, H, W), the same range; channels u v u v ... of the fields t-5 ... t+4.

        Raises:
            ConfigError: Shapes that do not fit each other or the network.
        """
        self.check(rgb, flow)
        frames = rgb.shape[1]
        appearance, motion = self.stem(rgb, flow)
        for stage in STAGES:
            appearance, motion = self.run_stage(self.stage, stage, appearance, motion, frames)
        return self.heads(appearance, motion, frames)

    def stem(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """conv1 and pool1 of both streams."""
        return self.appearance.stem(self.fold(rgb, "rgb")), self.motion.stem(self.fold(flow, "flow"))

    def stage(self, stage: int, appearance: Tensor, motion: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """One stage of both streams, connected after unit a."""
        appearance, motion, gated = self.first_units(stage, appearance, motion)
        appearance, motion = self.second_units(stage, appearance, motion, gated, frames)
        return self.last_units(stage, appearance, motion)

    def first_units(self, stage: int, appearance: Tensor, motion: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Unit a of both streams and the connection (STMulNet.m:239-305).

        Into motion, the product is the new state; into appearance, it is the third tensor, None where there is none,
        and read by the residual branch of unit b alone.
        """
        key = f"res{stage}"
        appearance_a, motion_a = self.appearance.units(stage)[0], self.motion.units(stage)[0]
        appearance_sum, motion_sum = appearance_a(appearance, frames=1), motion_a(motion, frames=1)

        if key in self.into_motion:
            motion_sum = self.into_motion[key](motion_sum, appearance_sum.relu())
        motion = motion_a.relu(motion_sum)
        gated = None
        if key in self.into_appearance:
            gated = self.into_appearance[key](appearance_sum, motion)
            if self.gate_whole_state:
                appearance_sum, gated = gated, None
        appearance = appearance_a.relu(appearance_sum)
        return appearance, motion, gated

    def second_units(
        self, stage: int, appearance: Tensor, motion: Tensor, gated: Tensor | None, frames: int
    ) -> tuple[Tensor, Tensor]:
        """Unit b of both streams, which alone sees neighbouring frames and is gated."""
        motion = run_units(self.motion.units(stage)[1:2], motion, frames)
        for unit in self.appearance.units(stage)[1:2]:
            appearance = unit.relu(unit(appearance, frames, residual_input=gated))
        return appearance, motion

    def last_units(self, stage: int, appearance: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Units c, d, ... of both streams."""
        return self.appearance.last_units(stage, appearance), self.motion.last_units(stage, motion)

    def heads(self, appearance: Tensor, motion: Tensor, frames: int) -> TwoStreamOutput:
        """Pooling and classifier of both streams."""
        return joint_output(self.appearance.head(appearance, frames), self.motion.head(motion, frames))


def make_gates(config: ModelConfig, wanted: bool) -> nn.ModuleDict:
    """The connections into one stream by stage."""
    if not wanted or config.fusion is None or config.appearance is None:
        return nn.ModuleDict()
    channels = config.appearance.out_channels  # of both streams: ModelConfig sees to it
    return nn.ModuleDict({f"res{stage}": Gate(config.fusion, channels(stage)) for stage in config.fusion.stages})


class SingleStreamNetwork(Network):
    """One stream alone: takes its one tensor and fills its one pair of fields."""

    def __init__(self, config: ModelConfig, class_names: list[str] | None = None) -> None:
        super().__init__(config, class_names)
        if len(config.streams) != 1:
            raise ConfigError("a single-stream network needs exactly one stream")
        if config.appearance is not None:
            self.appearance = Stream(RGB_CHANNELS, config.appearance, config)
        elif config.motion is not None:
            self.motion = Stream(FLOW_CHANNELS, config.motion, config)
        self.finish()

    def forward(self, clips: Tensor) -> TwoStreamOutput:
        """Score clips (N, T, 3, H, W) of RGB or (N, T, 20, H, W) of flow, uint8 or float, 0..255."""
        self.check(clips)
        frames = clips.shape[1]
        (x,) = self.stem(clips)
        for stage in STAGES:
            x = self.run_stage(self.stream.stage, stage, x, frames)
        return self.heads(x, frames)

    @property
    def stream(self) -> Stream:
        """The one that there is."""
        stream: Stream = self.get_submodule(self.config.streams[0])  # type: ignore[assignment]
        return stream

    def stem(self, clips: Tensor) -> tuple[Tensor]:
        """conv1 and pool1."""
        return (self.stream.stem(self.fold(clips, INPUTS[self.config.streams[0]])),)

    def first_units(self, stage: int, x: Tensor) -> tuple[Tensor]:
        """Unit a."""
        return (run_units(self.stream.units(stage)[:1], x, frames=1),)

    def second_units(self, stage: int, x: Tensor, frames: int) -> tuple[Tensor]:
        """Unit b, which alone sees neighbouring frames."""
        return (run_units(self.stream.units(stage)[1:2], x, frames),)

    def last_units(self, stage: int, x: Tensor) -> tuple[Tensor]:
        """Units c, d, ..."""
        return (self.stream.last_units(stage, x),)

    def heads(self, x: Tensor, frames: int) -> TwoStreamOutput:
        """Pooling and classifier."""
        logits = self.stream.head(x, frames)
        return joint_output(logits, None) if self.config.appearance is not None else joint_output(None, logits)


def joint_output(appearance_map: Tensor | None, motion_map: Tensor | None) -> TwoStreamOutput:
    """Average the maps over positions, then windows, then streams (cnn_train_dag.m:340-420)."""
    appearance = None if appearance_map is None else appearance_map.mean((-2, -1)).mean(-1)
    motion = None if motion_map is None else motion_map.mean((-2, -1)).mean(-1)
    present = [logits for logits in (appearance, motion) if logits is not None]
    return TwoStreamOutput(appearance, motion, torch.stack(present).mean(0), appearance_map, motion_map)


def build_network(config: ModelConfig, class_names: list[str] | None = None) -> Network:
    """The network that ``config`` describes, with random weights."""
    if len(config.streams) == 2:
        return MultiplierNetwork(config, class_names)
    return SingleStreamNetwork(config, class_names)


def build_empty(config: ModelConfig, class_names: list[str] | None = None) -> Network:
    """The network that ``config`` describes, without memory for its weights; `fill` gives them."""
    with torch.device("meta"):
        return build_network(config, class_names)


def fill(empty: Network, tensors: dict[str, Tensor]) -> Network:
    """Put tensors that are known to fit into a network of `build_empty`; it then is in evaluation mode."""
    empty.load_state_dict(tensors, assign=True)
    empty.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's hints lack the keyword alone
    return empty.eval()


def with_weights(config: ModelConfig, tensors: dict[str, Tensor], class_names: list[str] | None = None) -> Network:
    """The network that ``config`` describes with tensors that are known to fit, in evaluation mode."""
    return fill(build_empty(config, class_names), tensors)

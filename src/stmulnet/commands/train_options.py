"""Everything that `train` takes besides data set, network and run folder."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from stmulnet.commands.shared_options import Default


class TrainOptions(TypedDict, total=False):
    """Options of `train`; the defaults are the official ones of STMulNet.m.

    Attributes:
        split: Split to train on; annotations/annot0N.json.
        network_options: What to change in the network, e.g. units, width_mult, input_size, head_pool; docs/networks.md
            lists all with values and defaults. A table takes the place of the configuration file's; single entries are
            set with --network-options.NAME VALUE.
        weights: File of a whole network to start from, with the same layers: for a second stage of training, or to go
            on from another data set.
        appearance_weights: File that the appearance stream starts from: a base stream of the authors (.mat), a
            single-stream network of this package (.safetensors), or ImageNet weights of torchvision or timm (.pth,
            .pt, .safetensors); random weights otherwise.
        motion_weights: The same for the motion stream.
        allow_mismatch: Take files of another depth, width or class count, or trained on another data set or split;
            what does not agree is said.
        learning_rates: One per epoch; by default the official 1e-3, 1e-3, 1e-4, 1e-5, 1e-6.
        passes_per_epoch: How often an epoch has each video; they are shuffled together.
        epochs: Number of epochs; by default one per learning rate, of more the last rate stays.
        schedule: list, or cosine: from one learning rate to 0.
        warmup_epochs: Epochs in which the learning rate rises from 0; officially none.
        optimizer: sgd without Nesterov momentum, or adamw.
        momentum: Of sgd; the first beta of adamw.
        weight_decay: On the filters.
        clip_gradients: Largest norm of the gradient of an update; 0 leaves it as it is.
        batch_size: Videos per update.
        sub_batch_size: Videos per forward and backward pass; divides batch_size. BatchNorm sees one at a time.
        batchnorm: official: running averages of mean and sigma, moved once per update. frozen: statistics, gamma and
            beta stay as they are in the start weights. sync: statistics of the sub-batches of all GPUs together.
        batchnorm_rate: Share of an update in the running averages.
        frames: Frames per training clip; 1 takes any frame.
        strides: Smallest and largest distance of these frames.
        augmentation: Crops, by their official names: f25noCtr (two streams), borders25 (appearance base stream),
            multiScaleRegular (motion base stream); see docs/REPRODUCTION.md.
        repair: Oddities of the official loader to do without. first_run: the first run of frames of a video is never
            drawn. stride: one for all videos of a sub-batch, which a short video changes for the rest of it. crop:
            positions that the videos of a sub-batch do not have twice (f25noCtr) or share (borders25), and crops of
            exactly the input size at the top left. All are left as they are by default.
        resize_on_device: Resize the training crops on the device that trains, not in the loader processes: for GPUs
            that wait for them. Pixels can differ by one level of 255.
        label_smoothing: Share of the target that is spread over all classes; officially 0.
        mixup: Alpha of the distribution by which clips of a sub-batch are mixed; 0 mixes none.
        ema: Share of the old average in a moving average of the weights, e.g. 0.999, which is then validated and
            saved; 0 makes none.
        holdout: Share of the training list to set apart and validate on in place of the validation list: whole groups
            of videos, at least one per class.
        holdout_seed: Decides which; the same for every seed, so that runs can be compared.
        validate_every: Score the validation list after every so many epochs; 0 never. Without a holdout it is the
            *test* list of the split: watch it, but choose nothing by it. The best weights so far are kept.
        validation_frames: Frames per validation video.
        precision: float32, or bf16 or fp16 where torch deems them safe.
        compile: Compile the network (torch.compile): minutes at the start, quicker afterwards; needs a C++ compiler.
        gradient_checkpointing: Compute stages twice instead of keeping their features: less memory, more time.
        seed: Fixes the random start, the order of the clips and everything drawn.
        workers: Loader processes; 0 loads in the main process.
        cache: Keep decoded frames in memory (small data sets).
        checkpoint_minutes: Save a checkpoint after so many minutes, and after every epoch; 0 after every update.
        keep_checkpoints: How many checkpoints are kept.
    """

    split: Annotated[int, Default(1)]
    network_options: Annotated[dict[str, Any] | None, Default(None)]
    weights: Annotated[Path | None, Default(None)]
    appearance_weights: Annotated[Path | None, Default(None)]
    motion_weights: Annotated[Path | None, Default(None)]
    allow_mismatch: Annotated[bool, Default(False)]
    learning_rates: Annotated[list[float] | None, Default(None)]
    passes_per_epoch: Annotated[int, Default(5)]
    epochs: Annotated[int | None, Default(None)]
    schedule: Annotated[Literal["list", "cosine"], Default("list")]
    warmup_epochs: Annotated[float, Default(0)]
    optimizer: Annotated[Literal["sgd", "adamw"], Default("sgd")]
    momentum: Annotated[float, Default(0.9)]
    weight_decay: Annotated[float, Default(5e-4)]
    clip_gradients: Annotated[float, Default(0)]
    batch_size: Annotated[int, Default(128)]
    sub_batch_size: Annotated[int, Default(4)]
    batchnorm: Annotated[Literal["official", "frozen", "sync"], Default("official")]
    batchnorm_rate: Annotated[float, Default(0.05)]
    frames: Annotated[int, Default(5)]
    strides: Annotated[tuple[int, int], Default((5, 35))]
    augmentation: Annotated[Literal["f25noCtr", "borders25", "multiScaleRegular"], Default("f25noCtr")]
    repair: Annotated[list[Literal["first_run", "stride", "crop"]] | None, Default(None)]
    resize_on_device: Annotated[bool, Default(False)]
    label_smoothing: Annotated[float, Default(0)]
    mixup: Annotated[float, Default(0)]
    ema: Annotated[float, Default(0)]
    holdout: Annotated[float, Default(0)]
    holdout_seed: Annotated[int, Default(0)]
    validate_every: Annotated[int, Default(0)]
    validation_frames: Annotated[int, Default(25)]
    precision: Annotated[Literal["float32", "bf16", "fp16"], Default("float32")]
    compile: Annotated[bool, Default(False)]
    gradient_checkpointing: Annotated[bool, Default(False)]
    seed: Annotated[int, Default(0)]
    workers: Annotated[int, Default(0)]
    cache: Annotated[bool, Default(False)]
    checkpoint_minutes: Annotated[float, Default(10)]
    keep_checkpoints: Annotated[int, Default(2)]

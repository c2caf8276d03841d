"""`stmulnet convert`: weights between the authors' MatConvNet files and ours."""

from dataclasses import dataclass
from pathlib import Path

from stmulnet.console import notice
from stmulnet.errors import ConfigError
from stmulnet.files import check_output
from stmulnet.models.checkpoint import load_model, save_model
from stmulnet.models.matconvnet import export_mat
from stmulnet.models.multiplier import Network
from stmulnet.models.provenance import read_provenance
from stmulnet.models.sources import in_words, plain, read_record
from stmulnet.models.verify import describe

POSITIONAL = ("source", "target")
SUFFIXES = (".mat", ".safetensors")


@dataclass(frozen=True)
class ConvertSummary:
    """What `convert` did.

    Attributes:
        target: The file written.
        network: The network in it, in words, by heading.
    """

    target: Path
    network: dict[str, str]
    exit_code: int = 0


def convert(source: Path, target: Path) -> ConvertSummary:
    """Convert a weight file: MatConvNet (.mat) to .safetensors, or back.

    Args:
        source: The authors' .mat file, a .safetensors file, or the name of a file fetched before.
        target: The file to write; its suffix, .safetensors or .mat, says what. An existing one is replaced.

    Returns:
        The network in the file.
    """
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{target}: weights are written as {' or '.join(SUFFIXES)}; give the file one of these suffixes"
        )
    if target.resolve() == source.resolve():
        raise ConfigError(f"{target}: source and target are one file; give another target")
    check_output(target, folder=False)
    network = load_model(source)
    if suffix == ".mat":
        lost = _lost(network, source, target)
        export_mat(network, target)
        for what in lost:
            notice(f"note: {target}: {what}")
    else:
        save_model(network, target)
    found = describe(network)
    width = max(map(len, found))
    for heading, words in found.items():
        print(f"{heading:<{width}}  {words}")
    print(f"{'written':<{width}}  {target}")
    return ConvertSummary(target, found)


def _lost(network: Network, source: Path, target: Path) -> list[str]:
    """What is known about a network and a MATLAB file of that name cannot say."""
    lost = []
    if facts := sorted(network.metadata.keys() - {"provenance"}):
        lost.append(f"a .mat file has no place for {', '.join(facts)}; keep {source.name} too")
    named = read_provenance(target)
    for stream in network.config.streams:
        record = read_record(source, network.metadata, stream)
        before = record.get("from")
        if before or (plain(record["dataset"] or ""), record["split"]) != (named["dataset"] or "", named["split"]):
            earlier = f" (before that: {in_words(before)})" if before else ""
            lost.append(
                f"the {stream} stream was trained on {in_words(record)}{earlier}, the name of the file says "
                f"{in_words(named)}, and nothing else in it says where it comes from"
            )
    return lost

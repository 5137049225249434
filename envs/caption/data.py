"""Scenes by name: staged in our towns, or BDD-OIA's own files."""

from pathlib import Path

from mentorgym.envs.caption.scenes import Scenes
from mentorgym.names import nearest_name

LABELS = ("one", "all")
SPLITS = ("train", "val", "test", "toy")
PRIORS = {"staged": "uniform", "staged:paper": "paper"}
"""How often each reason occurs among staged scenes, by the name of the data."""


def load_scenes(
    data: str | Path, split: str, labels: str = "one", reason_order: str = "file", frames: int = 1
) -> Scenes:
    """The scenes of a split.

    Args:
        data: "staged" for scenes staged in our towns, each reason as often as the others; "staged:paper" with the
            imbalance of the RLOO paper's test set (its Table 3); or the folder of BDD-OIA's files, see
            `bddoia.BddOiaScenes`.
        split: "train", "val" or "test"; of BDD-OIA with `labels="one"` also "toy".
        labels: "one" for scenes with one action and one reason alone, "all" for any.
        reason_order: of BDD-OIA's reasons, see `bddoia.BddOiaScenes`.
        frames: how many of a scene will be asked for; of BDD-OIA's files those with fewer are left out.

    Raises:
        ValueError: an argument is unknown, or the files do not fit; the message names what would.
        ImportError: staged scenes need the extra `scenes`.
    """
    if labels not in LABELS:
        raise ValueError(f"unknown labels {labels!r}: {nearest_name(labels, LABELS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: {nearest_name(split, SPLITS)}")
    if str(data) in PRIORS:
        if split == "toy":
            raise ValueError(
                "the split 'toy' is one of BDD-OIA's files: for staged scenes choose 'train', 'val' or 'test'"
            )
        if reason_order != "file":
            raise ValueError(f"reason_order={reason_order!r} is for BDD-OIA's files; leave it out for staged scenes")
        from mentorgym.envs.caption.staging import StagedScenes

        return StagedScenes(split, labels=labels, prior=PRIORS[str(data)])
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise ValueError(f"unknown data {str(data)!r}: {nearest_name(data, PRIORS)}, or a folder with BDD-OIA's files")
    from mentorgym.envs.caption.bddoia import BddOiaScenes

    return BddOiaScenes(folder, split, labels=labels, reason_order=reason_order, least_frames=frames)

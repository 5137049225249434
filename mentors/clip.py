"""CLIP scorers, which measure how well pictures and texts agree, and the mentor that compares anchors by them."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import torch
from safetensors.numpy import load_file, save_file

from mentorgym.cache import cache_folder, keep
from mentorgym.extras import (
    TORCHVISION_REMEDY,
    import_extra,
    import_transformers,
    torchvision_fault,
)
from mentorgym.mentors.checkpoints import check_device, check_dtype, first_line, load_config, load_model, reason
from mentorgym.mentors.mentor import Feedback, Request
from mentorgym.tensors import check_tensors

TEXTS_AT_ONCE = 64

OPENCLIP_SETTINGS = ("*.json", "*.txt")
OPENCLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


class Scorer(Protocol):
    """A model that maps pictures and texts to unit vectors; its logit is `scale` * cosine + `bias`."""

    scale: float
    """the inverse of the learned temperature"""
    bias: float
    """0 where the model has none"""
    fingerprint: str
    """digest of everything that the features of a text depend on"""

    def encode_images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors float32 [B, D] of pictures uint8 [H, W, 3], each of any size."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [B, D]; long texts are truncated."""


class TransformersScorer:
    """A `CLIPModel` of transformers, with its tokenizer and preprocessing.

    `name` is a folder or a hub name. Pictures are resized, cropped and normalised by PIL according to
    `preprocessor_config.json`; torchvision is not used. A `CLIPModel` has no bias; the one here is `logit_bias` in
    `config.json`, which our own tuning on pairs writes.

    Raises:
        ValueError: weights are missing or of another architecture, or the device cannot be used.
        ImportError: transformers is missing, or broken by a torchvision that does not fit.
    """

    def __init__(self, name: str, device: str = "cpu", dtype: str | None = None):
        transformers = import_transformers()
        self.device = check_device(device)
        config = load_config(name)
        if config.model_type != "clip":
            raise ValueError(f"{name} holds a model of type {config.model_type!r}; a CLIP scorer needs 'clip'")
        self.model: Any = load_model(transformers.CLIPModel, name, check_dtype(dtype, self.device)).to(self.device)
        # transformers 4 has the PIL variant under the plain name.
        kind = "CLIPImageProcessorPil" if hasattr(transformers, "CLIPImageProcessorPil") else "CLIPImageProcessor"
        image_processor = getattr(transformers, kind)
        try:
            self.image_processor = image_processor.from_pretrained(name)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except ImportError:
            raise
        except Exception as error:  # Damaged files lead to errors of many types.
            raise ValueError(f"{name} lacks its tokenizer or preprocessor: {reason(error, name)}") from None
        self.scale = float(self.model.logit_scale.exp())
        self.bias = float(getattr(config, "logit_bias", 0.0))
        settings = [self.tokenizer.backend_tokenizer.to_str(), config.text_config.to_json_string(use_diff=False)]
        self.fingerprint = _fingerprint(self.model.state_dict(), ("vision_model.", "visual_projection."), settings)

    def encode_images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors float32 [B, D] of pictures uint8 [H, W, 3], each of any size."""
        pixels = self.image_processor(list(pictures), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            features = self.model.get_image_features(pixels["pixel_values"].to(self.device, self.model.dtype))
        return _unit_vectors(features)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [B, D]; long texts are truncated."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            features = self.model.get_text_features(
                tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device)
            )
        return _unit_vectors(features)


class OpenClipScorer:
    """A model of open_clip, from `local-dir:<folder>` or by its hub name `<owner>/<name>`.

    A folder, or a repository of the hub, holds `open_clip_config.json`, the tokenizer's files where the configuration
    names any, and the weights as `open_clip_model.safetensors` or `open_clip_pytorch_model.safetensors`.

    Raises:
        ValueError: there are no such weights, or the device cannot be used.
        ImportError: open_clip is missing, or broken by a torchvision that does not fit.
    """

    def __init__(self, name: str, device: str = "cpu", dtype: str | None = None):
        if fault := torchvision_fault():
            raise ImportError(f"open_clip needs torchvision, which cannot be imported ({fault}); {TORCHVISION_REMEDY}")
        open_clip = import_extra("open_clip", "openclip", "this mentor")
        self.device = check_device(device)
        self.dtype = check_dtype(dtype, self.device)
        folder = Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else _download_openclip(name)
        weights = next((path for each in OPENCLIP_WEIGHTS if (path := folder / each).is_file()), None)
        if weights is None or not (folder / "open_clip_config.json").is_file():
            raise ValueError(
                f"no weights in {name}: the folder needs open_clip_config.json and {' or '.join(OPENCLIP_WEIGHTS)}"
            )
        try:
            check_tensors(weights)
            # By default open_clip also loads pickled weights, and downloads those of a text tower that it names.
            model, _, self.preprocess = open_clip.create_model_and_transforms(
                f"local-dir:{folder}", load_weights=False, pretrained_text=False
            )
            open_clip.load_checkpoint(model, str(weights))
            self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"cannot load {name} with open_clip: {first_line(error)}") from None
        self.model: Any = model.eval().requires_grad_(False).to(self.device, self.dtype)
        self.scale = float(self.model.logit_scale.exp())
        bias = getattr(self.model, "logit_bias", None)
        self.bias = 0.0 if bias is None else float(bias)
        # The configuration and the tokenizer's files.
        settings = [path.read_text("utf-8") for kind in OPENCLIP_SETTINGS for path in sorted(folder.glob(kind))]
        self.fingerprint = _fingerprint(self.model.state_dict(), ("visual.",), settings)

    def encode_images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors float32 [B, D] of pictures uint8 [H, W, 3], each of any size."""
        from PIL import Image

        pixels = torch.stack([self.preprocess(Image.fromarray(picture)) for picture in pictures])
        with torch.inference_mode():
            return _unit_vectors(self.model.encode_image(pixels.to(self.device, self.dtype)))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [B, D]; long texts are truncated."""
        with torch.inference_mode():
            return _unit_vectors(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)))


def _download_openclip(name: str) -> Path:
    hub = import_extra("huggingface_hub", "openclip", "this mentor")
    patterns = [*OPENCLIP_SETTINGS, "*.model", *OPENCLIP_WEIGHTS]
    try:
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot fetch {name} from the hub (a folder is local-dir:<folder>): {first_line(error)}"
        ) from None


def _unit_vectors(features: Any) -> np.ndarray:
    # transformers 5 returns an output object, transformers 4 and open_clip a tensor.
    features = getattr(features, "pooler_output", features).float()
    return torch.nn.functional.normalize(features, dim=-1).cpu().numpy()


def _fingerprint(tensors: Mapping[str, torch.Tensor], vision: tuple[str, ...], settings: Sequence[str]) -> str:
    """Digest of `settings` and of all tensors except the vision tower's, whose names begin with `vision`."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in sorted(tensors.items()):
        if not name.startswith(vision):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def text_features(scorer: Scorer, texts: Sequence[str]) -> np.ndarray:
    """`scorer.encode_texts`, float32 [B, D], cached on disk under a digest of weights and texts."""
    digest = hashlib.sha256(json.dumps([scorer.fingerprint, *texts]).encode()).hexdigest()
    path = cache_folder() / "text_features" / f"{digest[:32]}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        return load_file(path)["features"]
    chunks = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
    features = np.concatenate([scorer.encode_texts(chunk) for chunk in chunks])
    keep(path, lambda scratch: save_file({"features": features}, scratch))
    return features


class ClipMentor:
    """Answers with the probabilities, float32 [K], of the anchors of a request's context: a softmax (Found-RL, eq. 25).

    `anchors` are texts, K for each context.
    """

    def __init__(self, scorer: Scorer, anchors: Sequence[Sequence[str]]):
        if (
            not anchors
            or isinstance(anchors, str)
            or not all(len(texts) and not isinstance(texts, str) for texts in anchors)
        ):
            raise ValueError("anchors are texts, a list for each context, none of them empty")
        self.scorer = scorer
        # Contexts may share texts; each is encoded once.
        flat = [text for texts in anchors for text in texts]
        places = {text: place for place, text in enumerate(dict.fromkeys(flat))}
        features = text_features(scorer, list(places))[[places[text] for text in flat]]
        self.features = np.split(features, np.cumsum([len(texts) for texts in anchors])[:-1])

    def __call__(self, requests: Sequence[Request]) -> list[Feedback | None]:
        """Probabilities for each request; raises IndexError for a context without anchors."""
        images = self.scorer.encode_images([request.picture for request in requests])
        answers: list[Feedback | None] = []
        for request, image in zip(requests, images, strict=True):
            logits = self.scorer.scale * (self.features[request.context] @ image) + self.scorer.bias
            weights = np.exp(logits - logits.max())
            answers.append((weights / weights.sum()).astype(np.float32))
        return answers


def load_clip(
    name: str, *, anchors: Sequence[Sequence[str]], device: str = "cpu", dtype: str | None = None
) -> ClipMentor:
    """A `ClipMentor` over transformers; see `TransformersScorer`.

    Args:
        name: folder or hub name.
        anchors: texts, K for each context.
        device: torch's name of the device.
        dtype: torch's name of the dtype; None is float32 on the CPU and bfloat16 elsewhere.
    """
    return ClipMentor(TransformersScorer(name, device, dtype), anchors)


def load_openclip(
    name: str, *, anchors: Sequence[Sequence[str]], device: str = "cpu", dtype: str | None = None
) -> ClipMentor:
    """A `ClipMentor` over open_clip; see `OpenClipScorer` for `name`, `load_clip` for the rest."""
    return ClipMentor(OpenClipScorer(name, device, dtype), anchors)

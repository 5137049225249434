"""Tiny models with random weights, saved as the real ones are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mentorgym.extras import import_transformers

TEMPLATE = (
    "<s>{% for message in messages %}{{ message['role'] }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


# Read when the hub's client is imported.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As in a worker."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def byte_tokenizer(*markers: str):
    """A token for each byte, after the markers; `<s>` begins, `</s>` ends, `<pad>` fills."""
    transformers = import_transformers()
    markers = ("<pad>", "<s>", "</s>", *markers)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*markers, *letters))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(markers))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>"
    )


def save(folder: Path, *parts) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel of 32 x 32 pixels and 24 tokens."""
    transformers = import_transformers()
    torch.manual_seed(1)
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.CLIPConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 24, **sizes, **ids},
        vision_config={"image_size": 32, "patch_size": 8, **sizes},
        projection_dim=8,
    )
    image_processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    folder = tmp_path_factory.mktemp("clip")
    return save(folder, transformers.CLIPModel(config), tokenizer, image_processor)


def idefics3(folder: Path) -> Path:
    """SmolVLM's architecture, with a chat template: 4 tokens for a picture of 32 x 32."""
    transformers = import_transformers()
    torch.manual_seed(2)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    markers = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    tokenizer = byte_tokenizer(*markers, *tiles)
    image_processor = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}
    )
    processor = transformers.Idefics3Processor(image_processor, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.Idefics3Config(
        vision_config={"image_size": 32, "patch_size": 8, **sizes},
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            **sizes,
            **ids,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        **ids,
    )
    return save(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


def paligemma(folder: Path) -> Path:
    """PaliGemma's architecture, which has no chat template: 16 tokens for a picture of 32 x 32."""
    transformers = import_transformers()
    torch.manual_seed(3)
    tokenizer = byte_tokenizer("<image>")
    image_processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    image_processor.image_seq_length = 16
    processor = transformers.PaliGemmaProcessor(image_processor, tokenizer)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 32,
            "vision_use_head": False,
            **sizes,
        },
        text_config={
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 512,
            **sizes,
            **ids,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        **ids,
    )
    return save(folder, transformers.PaliGemmaForConditionalGeneration(config), processor)


@pytest.fixture(scope="session", params=[idefics3, paligemma], ids=lambda build: build.__name__)
def vlm_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads pictures and writes text, one of each kind of prompt."""
    build: Callable[[Path], Path] = request.param
    return build(tmp_path_factory.mktemp(build.__name__))

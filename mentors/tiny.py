"""Small untrained models of our own: a CLIP and a VLM with the architecture of SmolVLM (Idefics3).

Both are classes of transformers, so that published checkpoints run through the same code. Their tokenizers are trained
on the texts of the task: a frequent sentence is one token, and so is a number of two decimals.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mentorgym.extras import import_transformers

NUMBERS = (
    # One digit before and after the point; up to 1.99 with two decimals; of others the whole part and the decimals.
    r"(?<![0-9])-?[0-9]\.[0-9](?![0-9])|(?<![0-9])-?[01]\.[0-9][0-9](?![0-9])|-?[0-9]+|\.[0-9]+"
)
"""Parts of a text that are tokens before any pieces are merged."""

MARKERS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
"""Special tokens of Idefics3's processor; the last ones are for pictures cut into tiles."""

CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

VOCABULARY = 2048


def _pil_variant(transformers: Any, name: str) -> Any:
    """An image processor that does not need torchvision; in transformers 4 it has the plain name."""
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


def _train_tokenizer(texts: Iterable[str], markers: Iterable[str], words: bool, phrases: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer (tokenizers' class) for `texts`; numbers, sentences and clauses apart, or words."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    apart = [pre_tokenizers.Split(Regex("|".join(map(re.escape, phrases))), "isolated")] if phrases else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *apart,
            pre_tokenizers.Split(Regex(NUMBERS), "isolated"),
            pre_tokenizers.Split(Regex(r"\.(?=\s|$)"), "merged_with_previous"),
            pre_tokenizers.Split(" and ", "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=list(markers),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def build_vlm(
    texts: Iterable[str],
    image_size: int = 96,
    patch_size: int = 12,
    scale_factor: int = 2,
    width: int = 128,
    vision_layers: int = 4,
    text_layers: int = 3,
    words: bool = False,
    phrases: Sequence[str] = (),
) -> tuple[Any, Any]:
    """An untrained `Idefics3ForConditionalGeneration` and its processor, whose tokenizer is trained on `texts`.

    Pictures are resized to `image_size` pixels, cut into patches, of which `scale_factor` squared are one token of the
    language model. With `words` no token is longer than a word; none goes across the ends of any of `phrases`. Weights
    are drawn from torch's global generator.
    """
    transformers = import_transformers()
    processing = _pil_variant(transformers, "Idefics3ImageProcessor")
    answers = [str(round(number / 100, 2)) for number in range(-100, 101)]
    speeds = [str(round(number / 10, 1)) for number in range(100)]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_train_tokenizer(
            [*texts, *2 * (answers + speeds), *2 * ["User:", "\nAssistant:"]], MARKERS, words, phrases
        ),
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        model_max_length=1024,
        # The markers are Idefics3's, and its processor looks them up by these names.
        additional_special_tokens=["<fake_token_around_image>", "<image>", "<end_of_utterance>"],
    )
    size = {"longest_edge": image_size}
    image_processor = processing(
        size=size,
        max_image_size=size,
        do_image_splitting=False,
        resample=2,  # bilinear
    )
    processor = transformers.Idefics3Processor(
        image_processor,
        tokenizer,
        image_seq_len=(image_size // patch_size // scale_factor) ** 2,
        chat_template=CHAT_TEMPLATE,
    )
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = transformers.Idefics3Config(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": width // 32,
            "image_size": image_size,
            "patch_size": patch_size,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": width // 32,
            "num_key_value_heads": width // 32,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            **tokens,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=scale_factor,
        tie_word_embeddings=True,
    )
    model = transformers.Idefics3ForConditionalGeneration(config)
    for name, token in tokens.items():
        setattr(model.generation_config, name, token)
    return model, processor


def build_clip(
    texts: Iterable[str],
    image_size: int = 96,
    patch_size: int = 12,
    width: int = 128,
    vision_layers: int = 4,
    text_layers: int = 2,
    words: bool = False,
    phrases: Sequence[str] = (),
    scale: float = 1.0 / 0.07,
) -> tuple[Any, Any]:
    """An untrained `CLIPModel` and its processor, whose tokenizer is trained on `texts`.

    Pictures are resized to squares of `image_size` pixels, whatever their shape: what a crop would cut off is where
    the side lanes are. With `words` no token is longer than a word; none goes across the ends of any of `phrases`.
    `scale` is the first inverse temperature. Weights are drawn from torch's global generator.
    """
    transformers = import_transformers()
    from tokenizers.processors import TemplateProcessing

    processing = _pil_variant(transformers, "CLIPImageProcessor")
    start, end, padding = "<|startoftext|>", "<|endoftext|>", "<|padding|>"
    # For an end with the id 2 transformers reads the features of the highest id instead, as OpenAI's first files need.
    trained = _train_tokenizer(texts, [start, end, padding], words, phrases)
    trained.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(each, trained.token_to_id(each)) for each in (start, end)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained,
        bos_token=start,
        eos_token=end,
        pad_token=padding,
        unk_token=end,
        model_max_length=77,
    )
    image_processor = processing(
        size={"height": image_size, "width": image_size},
        do_center_crop=False,
        resample=2,  # bilinear
    )
    processor = transformers.CLIPProcessor(image_processor, tokenizer)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 32}
    config = transformers.CLIPConfig(
        vision_config={
            **sizes,
            "num_hidden_layers": vision_layers,
            "image_size": image_size,
            "patch_size": patch_size,
            "projection_dim": width,
        },
        text_config={
            **sizes,
            "num_hidden_layers": text_layers,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "projection_dim": width,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=width,
        logit_scale_init_value=math.log(scale),
    )
    return transformers.CLIPModel(config), processor

"""Models of text with images or sound, each with the loss that it computes itself."""

import numpy as np

from tests.universality.entry import Case, Entry
from tests.universality.language import DECODER, ROWS, SPECIAL, VOCABULARY, tokens

IMAGE_TOKEN = 3
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "image_size": 16, "patch_size": 8}


def pixels() -> np.ndarray:
    """Random images [ROWS, 3, 16, 16]: four patches each."""
    return np.random.default_rng(2).standard_normal((ROWS, 3, 16, 16)).astype(np.float32)


def clip() -> Case:
    """Two towers; the loss compares each image with each text of the microbatch."""
    from transformers import CLIPConfig, CLIPModel

    last = VOCABULARY - 1
    text = {**SPECIAL, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 32, "eos_token_id": last}
    ids = np.concatenate([tokens(11, last), np.full((ROWS, 1), last)], 1)
    columns = {"input_ids": ids, "pixel_values": pixels()}
    return Case(model=CLIPModel(CLIPConfig(
        text_config=text, vision_config=VISION, projection_dim=16)),
        columns=columns, inference=columns)


def whisper() -> Case:
    """Sound to text: convolutions, an encoder, and a decoder that reads its memory."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    draws = np.random.default_rng(3)
    sound = {"input_features": draws.standard_normal((ROWS, 8, 32)).astype(np.float32)}
    return Case(
        model=WhisperForConditionalGeneration(WhisperConfig(
            **SPECIAL, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8,
            max_source_positions=16, max_target_positions=32, decoder_start_token_id=1,
            init_std=0.2)),
        columns={**sound, "labels": tokens(10)},
        inference={**sound, "decoder_input_ids": tokens(10)})


def llava() -> Case:
    """A vision tower whose features take the places of the image tokens in a text."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    ids = tokens()
    for row in range(ROWS):
        ids[row, row % 5:row % 5 + 4] = IMAGE_TOKEN
    inputs = {"input_ids": ids, "pixel_values": pixels()}
    labels = np.where(ids == IMAGE_TOKEN, -100, ids)
    return Case(
        model=LlavaForConditionalGeneration(LlavaConfig(
            vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**DECODER),
            image_token_index=IMAGE_TOKEN, vision_feature_layer=-1)),
        columns={**inputs, "labels": labels}, inference=inputs)


def _entry(name: str, source: str, build: object, notes: str) -> Entry:
    return Entry(name=name, family="Several kinds of data", source=f"transformers.{source}",
                 build=build, notes=notes)


ENTRIES = (
    _entry("CLIP", "CLIPModel", clip, "Contrastive loss within the microbatch."),
    _entry("Whisper", "WhisperForConditionalGeneration", whisper,
           "Every decoder layer reads the encoder's memory; tied embeddings."),
    _entry("LLaVA", "LlavaForConditionalGeneration", llava,
           "Image features take the places of image tokens, which differ by row. Natively another "
           "number of features than places is an error; a graph cannot refuse data."),
)

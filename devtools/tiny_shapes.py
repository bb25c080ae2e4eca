"""The names and shapes of every checkpoint's tensors, one function per architecture.

All key layouts are the real ones. FLUX and T5 are narrow, and the autoencoder is a TAEF1.
"""

from collections.abc import Iterator

Shapes = Iterator[tuple[str, tuple[int, ...]]]

FLUX_WIDTH = 128
FLUX_DEPTH, FLUX_SINGLE_DEPTH = 19, 38
T5_WIDTH, T5_FEED_FORWARD, T5_DEPTH = 64, 128, 2
CLIP_WIDTH = 768
TAE_WIDTH = 64
CONTROLNET_DEPTH = 6
LORA_RANK = 16
PULID_ATTENTIONS = 20
EVA_WIDTH, EVA_FEED_FORWARD, EVA_DEPTH, EVA_PATCHES = 1024, 2730, 24, 576


def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def conv(name: str, inputs: int, outputs: int, size: int, *, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, size, size)
    if bias:
        yield f"{name}.bias", (outputs,)


def flux_shapes() -> Shapes:
    """FLUX.1 dev: real topology, width 128, context 64 (the tiny T5), pooled 768 (CLIP-L)."""
    width = FLUX_WIDTH
    yield from linear("img_in", 64, width)
    yield from linear("txt_in", T5_WIDTH, width)
    for name, inputs in (("time_in", 256), ("vector_in", CLIP_WIDTH), ("guidance_in", 256)):
        yield from linear(f"{name}.in_layer", inputs, width)
        yield from linear(f"{name}.out_layer", width, width)
    for i in range(FLUX_DEPTH):
        yield from flux_double_block(f"double_blocks.{i}", width)
    for i in range(FLUX_SINGLE_DEPTH):
        block = f"single_blocks.{i}"
        yield from linear(f"{block}.linear1", width, 7 * width)
        yield from linear(f"{block}.linear2", 5 * width, width)
        yield from linear(f"{block}.modulation.lin", width, 3 * width)
        yield f"{block}.norm.query_norm.scale", (128,)
        yield f"{block}.norm.key_norm.scale", (128,)
    yield from linear("final_layer.linear", width, 64)
    yield from linear("final_layer.adaLN_modulation.1", width, 2 * width)


def flux_double_block(block: str, width: int) -> Shapes:
    for stream in ("img", "txt"):
        yield from linear(f"{block}.{stream}_mod.lin", width, 6 * width)
        yield from linear(f"{block}.{stream}_attn.qkv", width, 3 * width)
        yield from linear(f"{block}.{stream}_attn.proj", width, width)
        yield f"{block}.{stream}_attn.norm.query_norm.scale", (128,)
        yield f"{block}.{stream}_attn.norm.key_norm.scale", (128,)
        yield from linear(f"{block}.{stream}_mlp.0", width, 4 * width)
        yield from linear(f"{block}.{stream}_mlp.2", 4 * width, width)


def controlnet_shapes() -> Shapes:
    """FLUX.1-dev-ControlNet-Union-Pro-2.0 in its own diffusers layout, as narrow as the tiny FLUX."""
    width = FLUX_WIDTH
    embedders = (("timestep", 256), ("guidance", 256), ("text", CLIP_WIDTH))
    for name, inputs in embedders:
        yield from linear(f"time_text_embed.{name}_embedder.linear_1", inputs, width)
        yield from linear(f"time_text_embed.{name}_embedder.linear_2", width, width)
    yield from linear("context_embedder", T5_WIDTH, width)
    yield from linear("x_embedder", 64, width)
    for i in range(CONTROLNET_DEPTH):
        yield from diffusers_double_block(f"transformer_blocks.{i}", width)
        yield from linear(f"controlnet_blocks.{i}", width, width)
    yield from linear("controlnet_x_embedder", 64, width)


def diffusers_double_block(block: str, width: int) -> Shapes:
    projections = ("to_q", "to_k", "to_v", "to_out.0")
    added_projections = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    for name in (*projections, *added_projections):
        yield from linear(f"{block}.attn.{name}", width, width)
    for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        yield f"{block}.attn.{name}.weight", (128,)
    for stream in ("", "_context"):
        yield from linear(f"{block}.norm1{stream}.linear", width, 6 * width)
        yield from linear(f"{block}.ff{stream}.net.0.proj", width, 4 * width)
        yield from linear(f"{block}.ff{stream}.net.2", 4 * width, width)


def lora_shapes() -> Shapes:
    """flux_realism_lora: rank 16 on all attentions of the double blocks."""
    for i in range(FLUX_DEPTH):
        for stream in ("img", "txt"):
            attention = f"diffusion_model.double_blocks.{i}.{stream}_attn"
            for name, outputs in (("qkv", 3 * FLUX_WIDTH), ("proj", FLUX_WIDTH)):
                yield f"{attention}.{name}.lora_down.weight", (LORA_RANK, FLUX_WIDTH)
                yield f"{attention}.{name}.lora_up.weight", (outputs, LORA_RANK)


def t5_shapes() -> Shapes:
    """The T5 encoder at the size that `comfyui.narrow_t5` sets."""
    yield "shared.weight", (32128, T5_WIDTH)
    yield "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 1)
    for i in range(T5_DEPTH):
        attention, feed_forward = (f"encoder.block.{i}.layer.{part}" for part in (0, 1))
        for name in "qkvo":
            yield from linear(f"{attention}.SelfAttention.{name}", T5_WIDTH, T5_WIDTH, bias=False)
        for name in ("wi_0", "wi_1"):
            yield f"{feed_forward}.DenseReluDense.{name}.weight", (T5_FEED_FORWARD, T5_WIDTH)
        yield f"{feed_forward}.DenseReluDense.wo.weight", (T5_WIDTH, T5_FEED_FORWARD)
        yield f"{attention}.layer_norm.weight", (T5_WIDTH,)
        yield f"{feed_forward}.layer_norm.weight", (T5_WIDTH,)
    yield "encoder.final_layer_norm.weight", (T5_WIDTH,)


def clip_l_shapes() -> Shapes:
    """OpenAI's CLIP-L text tower, full size."""
    yield "text_model.embeddings.token_embedding.weight", (49408, CLIP_WIDTH)
    yield "text_model.embeddings.position_embedding.weight", (77, CLIP_WIDTH)
    for i in range(12):
        layer = f"text_model.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{layer}.self_attn.{name}", CLIP_WIDTH, CLIP_WIDTH)
        yield from linear(f"{layer}.mlp.fc1", CLIP_WIDTH, 4 * CLIP_WIDTH)
        yield from linear(f"{layer}.mlp.fc2", 4 * CLIP_WIDTH, CLIP_WIDTH)
        yield from norm(f"{layer}.layer_norm1", CLIP_WIDTH)
        yield from norm(f"{layer}.layer_norm2", CLIP_WIDTH)
    yield from norm("text_model.final_layer_norm", CLIP_WIDTH)


def vae_shapes() -> Shapes:
    """TAEF1, the small autoencoder of FLUX's latents: ComfyUI knows it by its keys."""
    yield from conv("taesd_encoder.0", 3, TAE_WIDTH, 3)
    yield from tae_blocks("taesd_encoder", 1)
    for first in (2, 6, 10):  # each halves the picture
        yield from conv(f"taesd_encoder.{first}", TAE_WIDTH, TAE_WIDTH, 3, bias=False)
        yield from tae_blocks("taesd_encoder", first + 1, first + 2, first + 3)
    yield from conv("taesd_encoder.14", TAE_WIDTH, 16, 3)
    yield from conv("taesd_decoder.1", 16, TAE_WIDTH, 3)
    for first in (3, 8, 13):
        yield from tae_blocks("taesd_decoder", first, first + 1, first + 2)
        yield from conv(f"taesd_decoder.{first + 4}", TAE_WIDTH, TAE_WIDTH, 3, bias=False)
    yield from tae_blocks("taesd_decoder", 18)
    yield from conv("taesd_decoder.19", TAE_WIDTH, 3, 3)


def tae_blocks(half: str, *numbers: int) -> Shapes:
    for number in numbers:
        for layer in (0, 2, 4):
            yield from conv(f"{half}.{number}.conv.{layer}", TAE_WIDTH, TAE_WIDTH, 3)


def pulid_shapes() -> Shapes:
    """PuLID for FLUX v0.9: the IDFormer at full size, 20 cross attentions of the tiny FLUX's width."""
    for name, shape in idformer_shapes():
        yield f"pulid_encoder.{name}", shape
    for i in range(PULID_ATTENTIONS):
        yield from perceiver(f"pulid_ca.{i}", context=2048, width=FLUX_WIDTH, inner=2048)


def idformer_shapes() -> Shapes:
    yield "latents", (1, 32, 1024)
    yield "proj_out", (1024, 2048)
    yield from mapping("id_embedding_mapping", 1280, 5 * 1024)
    for i in range(5):
        yield from mapping(f"mapping_{i}", 1024, 1024)
    for i in range(10):
        yield from perceiver(f"layers.{i}.0", context=1024, width=1024, inner=1024)
        yield from norm(f"layers.{i}.1.0", 1024)
        yield from linear(f"layers.{i}.1.1", 1024, 4096, bias=False)
        yield from linear(f"layers.{i}.1.3", 4096, 1024, bias=False)


def mapping(name: str, inputs: int, outputs: int) -> Shapes:
    yield from linear(f"{name}.0", inputs, 1024)
    yield from norm(f"{name}.1", 1024)
    yield from linear(f"{name}.3", 1024, 1024)
    yield from norm(f"{name}.4", 1024)
    yield from linear(f"{name}.6", 1024, outputs)


def perceiver(name: str, context: int, width: int, inner: int) -> Shapes:
    yield from norm(f"{name}.norm1", context)
    yield from norm(f"{name}.norm2", width)
    yield from linear(f"{name}.to_q", width, inner, bias=False)
    yield from linear(f"{name}.to_kv", context, 2 * inner, bias=False)
    yield from linear(f"{name}.to_out", inner, width, bias=False)


def eva_vision_shapes() -> Shapes:
    """EVA02-CLIP-L-14-336's vision tower, without its rotary tables."""
    width = EVA_WIDTH
    yield "visual.cls_token", (1, 1, width)
    yield "visual.pos_embed", (1, EVA_PATCHES + 1, width)
    yield from conv("visual.patch_embed.proj", 3, width, 14)
    for i in range(EVA_DEPTH):
        block = f"visual.blocks.{i}"
        yield from norm(f"{block}.norm1", width)
        yield f"{block}.attn.q_bias", (width,)
        yield f"{block}.attn.v_bias", (width,)
        for name in ("q_proj", "k_proj", "v_proj"):
            yield from linear(f"{block}.attn.{name}", width, width, bias=False)
        yield from norm(f"{block}.attn.inner_attn_ln", width)
        yield from linear(f"{block}.attn.proj", width, width)
        yield from norm(f"{block}.norm2", width)
        for name in ("w1", "w2"):
            yield from linear(f"{block}.mlp.{name}", width, EVA_FEED_FORWARD)
        yield from norm(f"{block}.mlp.ffn_ln", EVA_FEED_FORWARD)
        yield from linear(f"{block}.mlp.w3", EVA_FEED_FORWARD, width)
    yield from norm("visual.norm", width)
    yield from linear("visual.head", width, CLIP_WIDTH)


def eva_text_shapes() -> Shapes:
    """EVA02-CLIP-L's text tower: in the real file, and of no use to PuLID."""
    yield "logit_scale", ()
    yield "text.positional_embedding", (77, CLIP_WIDTH)
    yield "text.text_projection", (CLIP_WIDTH, CLIP_WIDTH)
    yield "text.token_embedding.weight", (49408, CLIP_WIDTH)
    for i in range(12):
        block = f"text.transformer.resblocks.{i}"
        yield from norm(f"{block}.ln_1", CLIP_WIDTH)
        yield f"{block}.attn.in_proj_weight", (3 * CLIP_WIDTH, CLIP_WIDTH)
        yield f"{block}.attn.in_proj_bias", (3 * CLIP_WIDTH,)
        yield from linear(f"{block}.attn.out_proj", CLIP_WIDTH, CLIP_WIDTH)
        yield from norm(f"{block}.ln_2", CLIP_WIDTH)
        yield from linear(f"{block}.mlp.c_fc", CLIP_WIDTH, 4 * CLIP_WIDTH)
        yield from linear(f"{block}.mlp.c_proj", 4 * CLIP_WIDTH, CLIP_WIDTH)
    yield from norm("text.ln_final", CLIP_WIDTH)


def bisenet_shapes() -> Shapes:
    """facexlib's BiSeNet on ResNet-18 with 19 classes."""
    yield from conv("cp.resnet.conv1", 3, 64, 7, bias=False)
    yield from batch_norm("cp.resnet.bn1", 64)
    inputs = 64
    for level, width in enumerate((64, 128, 256, 512), start=1):
        for i in range(2):
            block = f"cp.resnet.layer{level}.{i}"
            yield from conv_batch_norm(f"{block}.conv1", f"{block}.bn1", inputs, width, 3)
            yield from conv_batch_norm(f"{block}.conv2", f"{block}.bn2", width, width, 3)
            if inputs != width:
                shortcut = f"{block}.downsample"
                yield from conv_batch_norm(f"{shortcut}.0", f"{shortcut}.1", inputs, width, 1)
            inputs = width
    for name, channels in (("cp.arm16", 256), ("cp.arm32", 512)):
        yield from conv_batch_norm(f"{name}.conv.conv", f"{name}.conv.bn", channels, 128, 3)
        yield from conv_batch_norm(f"{name}.conv_atten", f"{name}.bn_atten", 128, 128, 1)
    for name, channels, size in (("head32", 128, 3), ("head16", 128, 3), ("avg", 512, 1)):
        yield from conv_batch_norm(
            f"cp.conv_{name}.conv", f"cp.conv_{name}.bn", channels, 128, size
        )
    yield from conv_batch_norm("ffm.convblk.conv", "ffm.convblk.bn", 256, 256, 1)
    yield from conv("ffm.conv1", 256, 64, 1, bias=False)
    yield from conv("ffm.conv2", 64, 256, 1, bias=False)
    for name, channels, width in (("", 256, 256), ("16", 128, 64), ("32", 128, 64)):
        head = f"conv_out{name}"
        yield from conv_batch_norm(f"{head}.conv.conv", f"{head}.conv.bn", channels, width, 3)
        yield from conv(f"{head}.conv_out", width, 19, 1, bias=False)


def conv_batch_norm(conv_name: str, norm_name: str, inputs: int, outputs: int, size: int) -> Shapes:
    yield from conv(conv_name, inputs, outputs, size, bias=False)
    yield from batch_norm(norm_name, outputs)


def batch_norm(name: str, width: int) -> Shapes:
    yield from norm(name, width)
    yield f"{name}.running_mean", (width,)
    yield f"{name}.running_var", (width,)
    yield f"{name}.num_batches_tracked", ()

"""Tensors in the names that Stable Diffusion 1.5 and AnimateDiff were first published with.

Written from the names of those files, not from diffusers' converter: it shall be wrong where the
converter is.
"""

import re

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def old_unet(state, prefix="model.diffusion_model."):
    """A U-Net with two layers a block."""
    with_attention = {m[1] for n in state if (m := re.match(r"(up_blocks\.\d+)\.attentions", n))}
    return {prefix + _unet_name(name, with_attention): tensor for name, tensor in state.items()}


def _unet_name(name, with_attention):
    stem, kind = name.rsplit(".", 1)
    if stem in ENDS:
        return f"{ENDS[stem]}.{kind}"
    where, block, part, layer, *rest = re.sub(r"^mid_block", "mid_block.0", name).split(".")
    block, layer, rest = int(block), int(layer), ".".join(rest)
    if part == "resnets":
        rest = RESNET[rest.rsplit(".", 1)[0]] + f".{kind}"
    if where == "mid_block":
        return f"middle_block.{1 if part == 'attentions' else 2 * layer}.{rest}"
    if where == "down_blocks":
        if part == "downsamplers":
            return f"input_blocks.{3 * block + 3}.0.op.{kind}"
        return f"input_blocks.{3 * block + layer + 1}.{int(part == 'attentions')}.{rest}"
    if part == "upsamplers":
        place = 1 + (f"up_blocks.{block}" in with_attention)
        return f"output_blocks.{3 * block + 2}.{place}.conv.{kind}"
    return f"output_blocks.{3 * block + layer}.{int(part == 'attentions')}.{rest}"


def old_vae(state, prefix="first_stage_model.", *, stages=4):
    """An autoencoder; its attention was made of convolutions."""
    old = {}
    for name, tensor in state.items():
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        up = re.search(r"up_blocks\.(\d)", name)
        if up:
            name = name.replace(up[0], f"up.{stages - 1 - int(up[1])}")
            name = name.replace(".resnets.", ".block.").replace("upsamplers.0", "upsample")
        middle = re.search(r"mid_block\.resnets\.(\d)", name)
        if middle:
            name = name.replace(middle[0], f"mid.block_{int(middle[1]) + 1}")
        if "mid_block.attentions.0" in name:
            where, _, rest = name.partition("mid_block.attentions.0.")
            stem, kind = rest.rsplit(".", 1)
            name = f"{where}mid.attn_1.{ATTENTION[stem]}.{kind}"
            tensor = tensor[..., None, None].clone() if tensor.ndim == 2 else tensor
        old[prefix + name] = tensor
    return old


def old_motion_module(state):
    """AnimateDiff's module: a table of positions in each of both attentions."""
    old = {}
    for name, tensor in state.items():
        name = re.sub(r"(motion_modules\.\d)", r"\1.temporal_transformer", name)
        name = name.replace(".norm1.", ".norms.0.").replace(".norm2.", ".norms.1.")
        name = name.replace(".norm3.", ".ff_norm.").replace(".attn1.", ".attention_blocks.0.")
        name = name.replace(".attn2.", ".attention_blocks.1.")
        if name.endswith("pos_embed.pe"):
            for attention in (0, 1):
                table = name.replace("pos_embed", f"attention_blocks.{attention}.pos_encoder")
                old[table] = tensor.clone()
        else:
            old[name] = tensor
    return old

"""FSDP2: each device keeps a part of the weights, gradients and optimiser state (`fully_shard`).

A *unit* is a module whose weights are gathered when it runs and let go behind it: each resnet,
spatial transformer and temporal layer of a site, and what stands between sites. Units are
smaller than a site since parts of a site also run alone: the last tokens of a portrait, and the
keys of the past. A unit's forward must call none of its own `ENTRIES`: weights are let go where
the inner call ends.
"""

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from loopy.errors import ConfigurationError
from loopy.models import DualUNet, UNet
from loopy.nn.spatial import SpatialTransformer
from loopy.nn.temporal import TemporalLayer

ENTRIES: dict[type[nn.Module], tuple[str, ...]] = {
    DualUNet: (
        *("encode_reference", "encode_past", "frame_tokens", "project_tokens", "null_past"),
        *("project_audio", "embed_frames", "penalties"),
    ),
    SpatialTransformer: ("tokens", "project_reference", "penalty"),
    TemporalLayer: ("project_past", "frame_tokens", "project_tokens", "null_past"),
}
"""Methods other than forward that need the weights of their module."""


def shard(network: DualUNet, mesh: DeviceMesh, *, compute: torch.dtype | None = None) -> None:
    """Spread a network over the devices of a mesh, in place; what is sharded stays as it is.

    All devices start from the weights of the first one, as in DDP. Master weights, gradients and
    their sum over the devices keep the precision of the parameters (float32).

    Args:
        network: Whole on each device, or on the CPU.
        mesh: lightning's, of data parallel and tensor parallel devices.
        compute: Precision in which weights are gathered and used, for example bfloat16 beside
            autocast; None = their own.

    Raises:
        ConfigurationError: A mesh with tensor parallel devices.
    """
    if mesh["tensor_parallel"].size() != 1:
        raise ConfigurationError(
            f"tensor_parallel_size is {mesh['tensor_parallel'].size()}, and no layer here is split "
            "that way; set it to 1, and data_parallel_size to the number of all devices"
        )
    if is_sharded(network):
        return
    data = mesh["data_parallel"]
    # Inputs are not cast: in a recomputation (gradient checkpointing) they would not be again.
    policy = MixedPrecisionPolicy(
        param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for unit in (*_units(network.reference_net), *_units(network.denoiser)):
        _shard(unit, data, policy)
    for part in (network.audio_projection, network.audio_to_latents):
        if part is not None:
            _shard([part], data, policy)
    fully_shard(network, mesh=data, mp_policy=policy)  # nothing is left: the root of all units
    for module in network.modules():
        for kind, names in ENTRIES.items():
            if isinstance(module, kind) and isinstance(module, FSDPModule):
                for name in names:
                    register_fsdp_forward_method(module, name)


def is_sharded(module: nn.Module) -> bool:
    """Whether weights of a module are spread over devices."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def _units(network: UNet) -> list[list[nn.Module]]:
    """Modules that run together, or alone, in which every parameter of a network is."""
    units: list[list[nn.Module]] = [[network.conv_in], [network.time_embedding]]
    if network.conv_reference is not None:
        units.append([network.conv_reference])
    if network.conv_norm_out is not None and network.conv_out is not None:
        units.append([network.conv_norm_out, network.conv_out])
    # All sites' audio is projected in one go, and nowhere else.
    heard = [
        attention
        for _, stage in network.stages()
        for transformer in stage.attentions
        if (attention := transformer.block.audio_attn) is not None
    ]
    if heard:
        units.append([layer for each in heard for layer in (each.to_k, each.to_v)])
    for _, stage in network.stages():
        for part in (stage.resnets, stage.attentions, stage.inter_clip, stage.intra_clip):
            units += [[module] for module in part]
        for name in ("downsamplers", "upsamplers"):
            units += [[module] for module in getattr(stage, name, None) or ()]
    return units


def _shard(modules: list[nn.Module], mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    here = torch.device(mesh.device_type)
    if here.type == "cuda":
        here = torch.device("cuda", torch.cuda.current_device())
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if not isinstance(tensor, DTensor):
                tensor.data = tensor.data.to(here)
                distributed.broadcast(tensor.data, src=0, group=mesh.get_group())
    unit = modules[0] if len(modules) == 1 else modules
    fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=True)

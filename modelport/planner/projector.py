"""What llama.cpp takes for a model to see, beside the projector's weights.

Measured on x86-64 with xllamacpp 2026.10, which reserves these buffers when it starts (random weights, two layers, the
shapes of the towers that are named):

    tower                        patches   embedding, feed-forward   buffer, MiB   without flash attention
    CLIP-L, 336 pixels               576       1,024, 4,096               17.05            30.55
    SigLIP-B, 512 pixels           1,024         768, 3,072               18.01
    SigLIP-So400m, 896 pixels      4,096       1,152, 4,304              121.25         1,132.00
    small                          1,024         256, 1,024                7.30
    small, twice as wide           1,024         512, 2,048               12.30
    small                          4,096         256, 1,024               29.22

That is patches × 4 × (feed-forward + 2 or 3 × embedding) bytes in f32, whatever the number of layers; without flash
attention patches × 4 × (6 × embedding + heads × patches).
"""

from typing import Literal

from modelport.domain.facts import Projector
from modelport.domain.plan import Part

F32_BYTES = 4
PICTURE_BYTES = 4000
"""Of a patch's own pixels, decoded and scaled: 16 × 16 × 3 in 8 bit and in f32."""
WITHOUT_FLASH_PATCHES = 4096
"""Whether a GPU's kernels have flash attention for a tower depends on its head size. More patches than these are those
of towers that scale pictures freely, which no published one runs without."""


def vision(projector: Projector, device: Literal["cpu", "gpu"]) -> Part:
    """The buffers for one picture at a time, in bytes. Low is a server that saw none yet."""
    patches, wide, inner = projector.patches, projector.embedding_size, projector.feed_forward_size
    high = patches * (F32_BYTES * max(inner + 3 * wide, 6 * wide) + PICTURE_BYTES)
    if device == "gpu":
        high += F32_BYTES * projector.heads * min(patches, WITHOUT_FLASH_PATCHES) ** 2
    return Part(
        "vision",
        min(patches, WITHOUT_FLASH_PATCHES) * F32_BYTES * (inner + 2 * wide) // 2,
        patches * (F32_BYTES * (inner + 3 * wide) + PICTURE_BYTES),
        high,
    )

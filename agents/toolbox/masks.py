"""Bird's-eye masks packed to bits, and a convolution that reads them so.

The 15 masks of `CarlaNoCrash-v0` hold few values (Found-RL's `chauffeurnet.py`): 0, 120, 255 in channels 0 to 2, 0, 255
in 3 to 10, 0, 80, 170, 255 in 11 to 14. Bits 7 and 6 of the byte tell the values of one channel apart, and bit 7 alone
those of the two-valued ones: 22 bit planes of 1 152 bytes, 25 344 bytes an observation instead of 138 240.

A convolution of patches of 4 x 4 pixels that do not overlap is linear in each patch, and the four pixels of one row of
a patch in one channel take at most 256 values: its output is a sum of rows of a table, one for each such four that is
not blank. Most are blank, so this costs a fraction of the products, and no float image is ever made.
"""

import numba
import numpy as np
import torch
from torch import nn

MASKS_SHAPE = (15, 96, 96)
CHANNELS, HEIGHT, WIDTH = MASKS_SHAPE

# A channel's value is high * bit7 + low * bit6 + both * (bit7 and bit6); one with low = 0 needs bit 7 alone.
DECODING = np.array([(255, 120, -120)] * 3 + [(255, 0, 0)] * 8 + [(170, 80, 5)] * 4).astype(np.uint64)
CHANNEL_VALUES = ((0, 120, 255),) * 3 + ((0, 255),) * 8 + ((0, 80, 170, 255),) * 4
PLANE_BYTES = HEIGHT * WIDTH // 8
PACKED_BYTES = (len(DECODING) + int((DECODING[:, 1] > 0).sum())) * PLANE_BYTES

LOW_BITS = np.uint64(0x0101010101010101)
GATHER = np.uint64(0x0102040810204080)
# Byte k of SPREAD[b] is bit k of b: eight pixels from eight bits.
SPREAD = np.array([sum((b >> k & 1) << 8 * k for k in range(8)) for b in range(256)], np.uint64)


@numba.njit(cache=True, nogil=True)
def pack_words(words, packed, decoding, low_bits, gather):
    """Pack `words` uint64 [15, P] of eight pixels into `packed` uint8 [22 * P]; the channel that does not fit or -1."""
    plane = 0
    pixels = words.shape[1]
    for channel in range(words.shape[0]):
        high_value, low_value, both_value = decoding[channel]
        two_planes = low_value > 0
        difference = np.uint64(0)
        for i in range(pixels):
            word = words[channel, i]
            high = (word >> np.uint64(7)) & low_bits
            low = (word >> np.uint64(6)) & low_bits
            difference |= word ^ (high * high_value + low * low_value + (high & low) * both_value)
            packed[plane + i] = (high * gather) >> np.uint64(56)
            if two_planes:
                packed[plane + pixels + i] = (low * gather) >> np.uint64(56)
        if difference != 0:
            return channel
        plane += 2 * pixels if two_planes else pixels
    return -1


@numba.njit(cache=True, nogil=True)
def unpack_words(packed, words, decoding, spread):
    """Unpack `packed` uint8 [B, 22 * P] into `words` uint64 [B, 15, P]."""
    pixels = words.shape[2]
    for b in range(len(packed)):
        row = packed[b]
        plane = 0
        for channel in range(words.shape[1]):
            high_value, low_value, both_value = decoding[channel]
            if low_value > 0:
                for i in range(pixels):
                    high = spread[row[plane + i]]
                    low = spread[row[plane + pixels + i]]
                    words[b, channel, i] = high * high_value + low * low_value + (high & low) * both_value
                plane += 2 * pixels
            else:
                for i in range(pixels):
                    words[b, channel, i] = spread[row[plane + i]] * high_value
                plane += pixels


def pack(masks: np.ndarray, packed: np.ndarray) -> None:
    """Pack `masks` uint8 [N, 15, 96, 96] into `packed` uint8 [N, 25344].

    Raises ValueError, naming channel and value, for a value that the channel cannot hold.
    """
    if masks.shape[1:] != MASKS_SHAPE or masks.dtype != np.uint8:
        raise ValueError(
            f"masks must be uint8 (N, {', '.join(map(str, MASKS_SHAPE))}), got {masks.dtype} {masks.shape}"
        )
    words = np.ascontiguousarray(masks).reshape(len(masks), CHANNELS, HEIGHT * WIDTH).view(np.uint64)
    for i in range(len(masks)):
        channel = pack_words(words[i], packed[i], DECODING, LOW_BITS, GATHER)
        if channel >= 0:
            known = CHANNEL_VALUES[channel]
            value = np.setdiff1d(masks[i, channel], known)[0]
            raise ValueError(f"mask channel {channel} holds {value}; only {known} can be packed there")


def pack_observations(observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The environments' `bev` uint8 [N, 15, 96, 96] as `packed` uint8 [N, 25344]; `state` as it is."""
    packed = np.empty((len(observations["bev"]), PACKED_BYTES), np.uint8)
    pack(observations["bev"], packed)
    return {"packed": packed, "state": observations["state"]}


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The masks, uint8 [B, 15, 96, 96], of `packed` uint8 [B, 25344], on the same device."""
    if packed.device.type == "cpu":
        masks = torch.empty((len(packed), *MASKS_SHAPE), dtype=torch.uint8)
        words = masks.numpy().reshape(len(packed), CHANNELS, HEIGHT * WIDTH).view(np.uint64)
        unpack_words(packed.contiguous().numpy(), words, DECODING, SPREAD)
        return masks
    return unpack_with_torch(packed)


def unpack_with_torch(packed: torch.Tensor) -> torch.Tensor:
    """`unpack` in operations of torch's, for devices that the compiled loop does not run on."""
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    planes = (packed[:, :, None] >> bits & 1).view(len(packed), PACKED_BYTES // PLANE_BYTES, HEIGHT, WIDTH)
    masks = torch.empty((len(packed), *MASKS_SHAPE), dtype=torch.uint8, device=packed.device)
    plane = 0
    for channel, (high_value, low_value, both_value) in enumerate(DECODING.astype(np.uint8).tolist()):
        masks[:, channel] = planes[:, plane] * high_value
        if low_value:
            low = planes[:, plane + 1]
            masks[:, channel] += low * low_value + planes[:, plane] * low * both_value
        plane += 2 if low_value else 1
    return masks


@numba.njit(cache=True, nogil=True)
def shift_planes(words, offsets, shifted):
    """`shift` of `words` uint32 [B, planes, 96, 3] by `offsets` int64 [B, 2] into `shifted`, of the same shape.

    A row is 96 bits in three words, the lowest bit of the first word leftmost; offsets are at most 31 pixels.
    """
    rows = words.shape[2]
    low_word = np.uint64(0xFFFFFFFF)
    for b in range(len(words)):
        down, right = offsets[b]
        for plane in range(words.shape[1]):
            for y in range(rows):
                row = words[b, plane, min(max(y + down, 0), rows - 1)]
                first, second, third = np.uint64(row[0]), np.uint64(row[1]), np.uint64(row[2])
                # What the edge pixel is repeated into, as a fourth word on that side.
                if right >= 0:
                    k = np.uint64(right)
                    edge = low_word if third >> np.uint64(31) else np.uint64(0)
                    shifted[b, plane, y, 0] = (first | second << np.uint64(32)) >> k & low_word
                    shifted[b, plane, y, 1] = (second | third << np.uint64(32)) >> k & low_word
                    shifted[b, plane, y, 2] = (third | edge << np.uint64(32)) >> k & low_word
                else:
                    k = np.uint64(32 + right)
                    edge = low_word if first & np.uint64(1) else np.uint64(0)
                    shifted[b, plane, y, 0] = (edge | first << np.uint64(32)) >> k & low_word
                    shifted[b, plane, y, 1] = (first | second << np.uint64(32)) >> k & low_word
                    shifted[b, plane, y, 2] = (second | third << np.uint64(32)) >> k & low_word


def shift(packed: torch.Tensor, offsets: torch.Tensor, repeat_edges: bool = True) -> torch.Tensor:
    """Packed masks uint8 [B, 25344] as seen from `offsets` int64 [B, 2] pixels further down and right, at most 31.

    What comes in at an edge repeats the edge's pixels, or is 0.
    """
    if repeat_edges and packed.device.type == "cpu":
        words = packed.contiguous().numpy().view(np.uint32).reshape(len(packed), -1, HEIGHT, WIDTH // 32)
        shifted = np.empty_like(words)
        shift_planes(words, offsets.numpy(), shifted)
        return torch.from_numpy(shifted.view(np.uint8).reshape(packed.shape))
    y, x = (torch.arange(HEIGHT, device=packed.device) + offsets[:, i, None] for i in range(2))
    if repeat_edges:
        y, x = y.clamp(0, HEIGHT - 1), x.clamp(0, WIDTH - 1)
    return take_pixels(packed, y[:, :, None], x[:, None, :])


def rotate(packed: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Packed masks uint8 [B, 25344] turned counter-clockwise about their centre by `angles` [B] in radians.

    Each pixel is the nearest one of before; what comes in at an edge is 0.
    """
    centre = (HEIGHT - 1) / 2
    place = torch.arange(HEIGHT, device=packed.device) - centre
    down, right, angles = place[:, None], place[None, :], angles[:, None, None]
    y = angles.cos() * down + angles.sin() * right
    x = angles.cos() * right - angles.sin() * down
    return take_pixels(packed, (y + centre).round().long(), (x + centre).round().long())


def take_pixels(packed: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Packed masks uint8 [B, 25344] of the pixels at rows `y` and columns `x` of those in `packed`.

    `y` and `x` are int64 and broadcast to [B, 96, 96]; a pixel outside is 0.
    """
    y, x = torch.broadcast_tensors(y, x)
    inside = (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
    index = torch.where(inside, y * WIDTH + x, 0).flatten(1)[:, None]
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    planes = (packed[:, :, None] >> bits & 1).view(len(packed), -1, HEIGHT * WIDTH)
    taken = planes.gather(2, index.expand(planes.shape)) * inside.flatten(1)[:, None]
    return (taken.view(len(packed), PACKED_BYTES, 8) << bits).sum(2, dtype=torch.uint8)


PATCH = 4
ROWS, COLUMNS = HEIGHT // PATCH, WIDTH // PATCH
TWO_PLANES = DECODING[:, 1] > 0


def four_pixels(channel: int) -> torch.Tensor:
    """Value / 255 of four pixels in a row for each code of theirs: float32 [256, 4]; [16, 4] in a two-valued channel.

    A code holds the four high bits above the four low ones, or the high ones alone; its lowest bit is the first pixel.
    """
    high_value, low_value, both_value = DECODING[channel].astype(np.int64)
    codes = np.arange(256 if TWO_PLANES[channel] else 16)[:, None]
    high, low = (codes >> 4, codes & 15) if TWO_PLANES[channel] else (codes, 0 * codes)
    high, low = high >> np.arange(4) & 1, low >> np.arange(4) & 1
    values = high * high_value + low * low_value + high * low * both_value
    return torch.from_numpy(values / 255).float()


FOUR_PIXELS = [four_pixels(channel) for channel in range(CHANNELS)]


@numba.njit(cache=True, nogil=True)
def add_rows(words, two_planes, table, sums, transposed):
    """Add to each patch's row of `sums` float32 [B, 576, O] the rows of `table` float32 [R, O] for its pixels.

    Transposed, add each patch's row of `sums` to those rows of `table`: the sums' gradient to the table's.
    `words` uint32 [B, 22 * 288] are packed masks, 32 pixels a word, which is a row of eight patches.
    """
    plane_words = HEIGHT * WIDTH // 32
    for b in range(len(words)):
        plane, first_row = 0, 0
        for channel in range(len(two_planes)):
            codes = 256 if two_planes[channel] else 16
            for i in range(plane_words):
                high = words[b, plane + i]
                low = words[b, plane + plane_words + i] if two_planes[channel] else np.uint32(0)
                y, x = i // (WIDTH // 32), i % (WIDTH // 32)
                patch = y // PATCH * COLUMNS + 8 * x
                while high | low != 0:
                    code = high & np.uint32(15)
                    if two_planes[channel]:
                        code = code << np.uint32(4) | low & np.uint32(15)
                    if code != 0:
                        row = first_row + y % PATCH * codes + code
                        if transposed:
                            for output in range(table.shape[1]):
                                table[row, output] += sums[b, patch, output]
                        else:
                            for output in range(table.shape[1]):
                                sums[b, patch, output] += table[row, output]
                    high, low = high >> np.uint32(4), low >> np.uint32(4)
                    patch += 1
            plane += 2 * plane_words if two_planes[channel] else plane_words
            first_row += PATCH * codes


class SumOfRows(torch.autograd.Function):
    """`packed` uint8 [B, 25344], `table` float32 [R, O] and `bias` float32 [O] to sums float32 [B, 576, O]."""

    @staticmethod
    def forward(ctx, packed: torch.Tensor, table: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.words, ctx.shape = packed.numpy().view(np.uint32), table.shape
        sums = bias.repeat(len(packed), ROWS * COLUMNS, 1)
        add_rows(ctx.words, TWO_PLANES, table.numpy(), sums.numpy(), False)
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, sums: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        sums = sums.contiguous()
        table = torch.zeros(ctx.shape)
        add_rows(ctx.words, TWO_PLANES, table.numpy(), sums.numpy(), True)
        return None, table, sums.sum((0, 1))


class PatchConvolution(nn.Conv2d):
    """`nn.Conv2d(15, outputs, 4, stride=4)` of masks / 255, which takes them packed.

    From uint8 [B, 25344] to float32 [B, outputs, 24, 24]. Equal but for the rounding of sums in another order.
    """

    def __init__(self, outputs: int):
        super().__init__(CHANNELS, outputs, PATCH, stride=PATCH)

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        if packed.device.type != "cpu":
            return super().forward(unpack(packed).float().div_(255))
        weights = self.weight.permute(1, 2, 3, 0)
        table = torch.cat([(FOUR_PIXELS[c] @ weights[c]).flatten(0, 1) for c in range(CHANNELS)])
        sums = SumOfRows.apply(packed.contiguous(), table, self.bias)
        return sums.unflatten(1, (ROWS, COLUMNS)).permute(0, 3, 1, 2)

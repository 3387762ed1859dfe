"""Colour profiles written by hand (ICC.1:2001-04), and what the standards say of their colours."""

import struct

import numpy as np

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
"""Display P3: SMPTE EG 432-1's primaries, white D65, the curve of sRGB."""
ADOBE = ((0.6400, 0.3300), (0.2100, 0.7100), (0.1500, 0.0600))
"""Adobe RGB (1998), white D65, gamma 563/256."""
SRGB = ((0.6400, 0.3300), (0.3000, 0.6000), (0.1500, 0.0600))
"""IEC 61966-2-1."""
D65, D50 = np.array([0.9505, 1.0, 1.0890]), np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
ADAPTED = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ D65)) @ BRADFORD
"""D65 to D50."""


def to_xyz(primaries):
    """Matrix from linear RGB to XYZ, both of white D65."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, D65)


def encoded(linear):
    """Light to sRGB of 0 to 255, IEC 61966-2-1."""
    linear = np.clip(linear, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curve


def decoded(levels):
    """0 to 255 of sRGB's curve to light."""
    share = np.asarray(levels) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def p3_to_srgb(levels):
    return encoded(np.linalg.solve(to_xyz(SRGB), to_xyz(P3) @ decoded(levels)))


def adobe_to_srgb(levels):
    light = (np.asarray(levels) / 255) ** (563 / 256)
    return encoded(np.linalg.solve(to_xyz(SRGB), to_xyz(ADOBE) @ light))


def lab_to_srgb(lab):
    """CIE 15, white D50, then Bradford's adaptation."""
    light, a, b = lab
    y = (light + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return encoded(np.linalg.solve(ADAPTED @ to_xyz(SRGB), xyz))


def p3_profile():
    points = np.round(65535 * decoded(np.linspace(0, 255, 1024))).astype(">u2").tobytes()
    return matrix_profile(P3, struct.pack(">4s4xI", b"curv", 1024) + points)


def adobe_profile():
    return matrix_profile(ADOBE, gamma_curve(563 / 256))


def gamma_curve(gamma):
    return struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))


def matrix_profile(primaries, curve):
    columns = (ADAPTED @ to_xyz(primaries)).T
    tags = {b"wtpt": xyz(D50)}
    for letter, column in zip(b"rgb", columns, strict=True):
        tags[bytes([letter]) + b"XYZ"], tags[bytes([letter]) + b"TRC"] = xyz(column), curve
    return profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma):
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": xyz(D50), b"kTRC": gamma_curve(gamma)})


def cmyk_profile(corners):
    """Four inks of which only the corners are told.

    Args:
        corners: Lab of each of the 16 mixtures of full inks; black changes fastest.
    """
    rows = [(round(2.55 * light), a + 128, b + 128) for light, a, b in corners]
    ramp = bytes(range(256))
    lut = struct.pack(">4s4x4B9i", b"mft1", 4, 3, 2, 0, *(65536 * np.eye(3, dtype=int)).ravel())
    lut += ramp * 4 + bytes(np.array(rows, np.uint8).ravel()) + ramp * 3
    return profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": xyz(D50), b"A2B0": lut})


def xyz(values):
    return struct.pack(">4s4x3i", b"XYZ ", *np.round(65536 * np.array(values)).astype(int))


def profile(kind, space, between, tags):
    """Header and table of tags (ICC.1:2001-04, 6)."""
    tags = {b"desc": struct.pack(">4s4xI5s78x", b"desc", 5, b"test\0")} | tags
    tags[b"cprt"] = b"text\0\0\0\0none\0"
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s28x", start + len(data), b"", 0x02400000, kind, space,
                       between, b"acsp")  # fmt: skip
    head += struct.pack(">3i48x", *np.round(65536 * D50).astype(int))
    return head + struct.pack(">I", len(tags)) + table + data

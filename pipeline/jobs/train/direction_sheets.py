"""What a direction does, for people to judge: a row a face, a column an amount, through real streams."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from framevault.codecs.base import Semantics
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.hsc.directions import Direction
from framevault.codecs.hsc.editing import move, shift_along
from framevault.pipeline.contact_sheet import SheetTile, draw_sheet
from framevault.pipeline.jobs.train.face_styles import Faces


def draw_direction_sheets(
    folder: Path,
    codec: HscCodec,
    faces: Faces,
    directions: Sequence[Direction],
    *,
    num_faces: int,
    amounts: Sequence[float],
) -> list[Path]:
    """Write `<name>.png` for each direction; what lies there is replaced.

    Args:
        folder: Where to; made if it is not there.
        codec: Encodes and restores.
        faces: Of which the last ones are shown.
        directions: What is shown.
        num_faces: Rows.
        amounts: Columns, after the original picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    side = codec.networks.config.resolution
    decoder = codec.decoder(height=side, width=side)
    chosen = range(max(0, len(faces.names) - num_faces), len(faces.names))
    coded = [_code(codec, faces, number) for number in chosen]
    paths = []
    for direction in directions:
        tiles: list[SheetTile] = []
        for number, latents in zip(chosen, coded, strict=True):
            tiles.append(SheetTile(picture=_picture(faces, number, side), caption="original"))
            for amount in amounts:
                moved = move(latents, shift_along(direction, amount), decoder.own_feature)
                frame_chw = decoder.render(moved.styles_nld, moved.feature_nchw)[0].cpu()
                picture = Image.fromarray(frame_chw.permute(1, 2, 0).numpy())
                tiles.append(SheetTile(picture=picture, caption=f"{direction.name} {amount:+g}"))
        path = folder / f"{direction.name}.png"
        draw_sheet(tiles, num_columns=1 + len(amounts)).save(path)
        paths.append(path)
    return paths


def _code(codec: HscCodec, faces: Faces, number: int) -> Semantics:
    """Return what is decoded of a face's stream."""
    rgb_hwc = faces.rgb_hwc[number]
    height, width = rgb_hwc.shape[:2]
    frames_1chw = torch.from_numpy(rgb_hwc).permute(2, 0, 1)[None]
    streams = codec.encoder(height=height, width=width).encode(frames_1chw)
    return codec.decoder(height=height, width=width).decode_latents(streams)


def _picture(faces: Faces, number: int, side: int) -> Image.Image:
    picture = Image.fromarray(faces.rgb_hwc[number])
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture

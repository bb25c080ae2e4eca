"""Encode a photo to an identity file without ComfyUI; docs/python.md shows this file."""

import sys
from pathlib import Path

from pulid_core.encoder.encode import encode_identity, load_stages
from pulid_core.face.report import report_text
from pulid_core.identity.file import save_identity
from pulid_core.images import photo_from_file

models, photo, identity_file = map(Path, sys.argv[1:])
stages = load_stages(
    pulid=models / "pulid/pulid_flux_v0.9.1.safetensors",
    eva_clip=models / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt",
    face_parsing=models / "facexlib/parsing_bisenet.pth",
    face_model=models / "insightface/models/antelopev2",
)
identity = encode_identity([photo_from_file(photo)], stages)
sys.stdout.write(report_text(identity.photos))
save_identity(identity, identity_file)

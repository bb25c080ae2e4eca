"""Encode a photo to an identity file without ComfyUI; the README shows this file."""

import sys
from pathlib import Path

from pulid_core.encoding import encode_identity, load_stages
from pulid_core.identity_file import save_identity
from pulid_core.images import photo_from_file
from pulid_core.report import report_text

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

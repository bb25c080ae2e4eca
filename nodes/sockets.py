"""The sockets that only our nodes speak, and the refusal of strangers on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..pulid_core.errors import PulidError
from ..pulid_core.identity.identity import Identity

if TYPE_CHECKING:
    from ..pulid_core.face.analyser import FaceAnalyser
    from .pulid_models import Pulid

PulidSocket = io.Custom("PULID")
FaceModelSocket = io.Custom("PULID_FACE_MODEL")
IdentitySocket = io.Custom("PULID_IDENTITY")
TuningSocket = io.Custom("PULID_TUNING")
OptionsSocket = io.Custom("PULID_FLUX_OPTIONS")


def require_pulid(value: Any, node: type[io.ComfyNode]) -> Pulid:
    """Return what a PULID socket carries.

    Raises:
        PulidError: It comes from another pack.
    """
    from .pulid_models import Pulid

    if not isinstance(value, Pulid):
        raise PulidError(
            f"{_name(node)} needs the output of PulidLoader as pulid, but got "
            f"{type(value).__name__}. Other packs use the same socket name; connect our loader."
        )
    return value


def require_faces(value: Any, node: type[io.ComfyNode]) -> FaceAnalyser:
    """Return the detector and recogniser of what a PULID or PULID_FACE_MODEL socket carries.

    Raises:
        PulidError: It comes from another pack.
    """
    from .face_model import FaceModel
    from .pulid_models import Pulid

    if not isinstance(value, FaceModel | Pulid):
        raise PulidError(
            f"{_name(node)} needs a face model of PuLID for FLUX, but got {type(value).__name__}. "
            "Connect PulidLoadFaceModel or PulidLoader."
        )
    return value.faces


def require_identity(value: Any, node: type[io.ComfyNode]) -> Identity:
    """Return what a PULID_IDENTITY socket carries.

    Raises:
        PulidError: It comes from another pack.
    """
    if not isinstance(value, Identity):
        raise PulidError(
            f"{_name(node)} needs an identity of PuLID for FLUX, but got {type(value).__name__}. "
            "Connect PulidEncodeIdentity or PulidLoadIdentity."
        )
    return value


def _name(node: type[io.ComfyNode]) -> str:
    return node.define_schema().node_id  # GET_SCHEMA writes to the class, which is locked now

"""The same for workflows in API format."""

from copy import deepcopy

from pulid_pack.pulid_core.old_workflows import convert
from pulid_pack.tests.old_workflows.old_graphs import BALAZIK, SIPIE, prompt


def test_a_prompt_is_converted():
    conversion = convert(prompt())
    assert conversion.remarks == []
    new = conversion.workflow
    assert set(new) == {"1", "2", "5", "6", "7"}
    assert new["2"]["inputs"]["provider"] == "auto"
    assert new["2"]["inputs"]["pulid_file"] == "pulid_flux_v0.9.1.safetensors"
    links = {"model": ["1", 0], "pulid": ["2", 0], "reference": ["5", 0]}
    numbers = dict(zip(("weight", "start_at", "end_at"), BALAZIK, strict=True))
    assert new["6"] == {"class_type": "PulidApplyFlux", "inputs": numbers | links}
    assert convert(new).workflow == new
    assert convert({"prompt": prompt(), "client_id": "x"}).workflow["prompt"] == new


def test_a_prompt_with_every_extra():
    old = prompt(SIPIE, provider="CUDA", options=["8", 0], prior_image=["5", 0])
    old["8"] = {"class_type": "PulidFluxOptions", "inputs": {"input_faces_index": 1}}
    sockets = {"face_analysis": ["3", 0], "image": ["5", 0], "options": ["8", 0]}
    old["9"] = {"class_type": "PulidFluxFaceDetector", "inputs": sockets}
    old["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["9", 2]}}
    old["11"] = {"class_type": "FixPulidFluxPatch", "inputs": {"model": ["6", 0]}}
    old["7"]["inputs"]["model"] = ["11", 0]
    old["12"] = {"class_type": "ApplyInstantID", "inputs": {"face_analysis": ["3", 0]}}
    conversion = convert(old)
    told = " ".join(conversion.remarks)
    for word in ("auto_weight", "prior_image", "face 1", "Detector", "FixPulid", "ApplyInstantID"):
        assert word in told
    new = conversion.workflow
    assert set(new) == {"1", "2", "3", "5", "6", "7", "10", "12"}
    assert new["10"]["inputs"]["images"] == ["5", 0]
    assert new["7"]["inputs"]["model"] == ["6", 0]
    assert convert(new).workflow == new


def test_prompt_apply_nodes_share_a_loader_whatever_their_detectors_ran_on():
    old = prompt()
    old["8"] = {"class_type": "PulidFluxInsightFaceLoader", "inputs": {"provider": "CUDA"}}
    old["9"] = deepcopy(old["6"])
    old["9"]["inputs"] |= {"face_analysis": ["8", 0], "model": ["6", 0]}
    new = convert(old).workflow
    assert new["6"]["inputs"]["pulid"] == new["9"]["inputs"]["pulid"] == ["2", 0]

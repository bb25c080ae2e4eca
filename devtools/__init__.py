"""What developers run through `dev.py`: set-up, test steps, demos, stand-ins. Not shipped.

commands, setup, steps        `dev.py` itself: what it installs, and which tests run when
comfyui, comfyui_source       real ComfyUI servers, and which versions there are, from where
tiny_stage, tiny_shapes       checkpoints of random weights
face_detector, onnx_graph     a face detector for them
wavespeed_standin, wavespeed_faults, wavespeed_proxy  the hosted service, its failures, a proxy
demo, remote_demo             both demos
cards, pictures, choice_picture  the templates' cards, and the pictures of nodes and pages
pages                         generated parts of the help pages
many_machines, waiting        several ComfyUI servers at once
"""

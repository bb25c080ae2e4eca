"""PuLID for FLUX without ComfyUI: photo -> faces -> parsing and vision -> encoder -> identity -> attention.

errors           what can go wrong
images, pixels   photos with and without torch: any form -> RGB
numbers          lists of numbers that a user types
checkpoint       reads model files without running what is in them, and says what a wrong one is
pulid_file       the PuLID checkpoint: its encoder, and its cross attentions one by one
result_cache     what is remembered of photos, and how much memory that takes
file_hash, whole_file  a file's sha256, and files that are written whole or not at all
prompt_branches  which parts of a ComfyUI prompt run, and where
"""

__version__ = "0.1.0"

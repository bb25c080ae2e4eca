"""What the service takes and asks: sizes, numbers, and the price of its page."""

SIDE_MIN, SIDE_MAX = 256, 1536
"""Pixels per side of a picture."""
GUIDANCE_MAX = 20.0
SEED_MAX = 2**31 - 1
RANDOM_SEED = -1
IMAGES_MAX = 16
"""Images per photo and prompt."""
OUTPUT_FORMATS = ("png", "jpeg", "webp")
LIST_PRICE_USD = 0.02
"""One image, on the model's page; used when no quote can be had."""

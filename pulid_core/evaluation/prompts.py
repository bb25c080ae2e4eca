"""Twenty prompts that name nobody, in four groups."""

PROMPTS = {
    "portrait": (
        "Portrait photograph of a person in a plain grey sweater, soft window light, neutral background",
        "Portrait photograph of a person on a rainy city street at night, neon reflections",
        "Portrait photograph of a person in a sunlit kitchen, holding a cup of coffee",
        "Portrait photograph of a person in a dark suit against a white wall, hard flash",
        "Portrait photograph of a person in a forest in autumn, wearing a green raincoat",
    ),
    "pose": (
        "Photograph of a person seen in profile, looking out of a train window",
        "Photograph of a person looking up at the stars, seen from below, on a hill at dusk",
        "Photograph of a person looking down at a book, in a library",
        "Photograph of a person turning around on a beach, head over the shoulder",
        "Full-length photograph of a person running along a river, seen from the side",
    ),
    "expression": (
        "Close-up photograph of a person laughing with an open mouth, outdoors",
        "Close-up photograph of a person crying, tears on the cheeks, dim room",
        "Close-up photograph of an angry person shouting, dramatic side light",
        "Close-up photograph of a surprised person with raised eyebrows and an open mouth",
        "Close-up photograph of a person asleep with closed eyes, morning light on the pillow",
    ),
    "style": (
        "Oil painting of a person in the manner of the Dutch golden age, dark background",
        "Watercolour sketch of a person in a garden, loose brush strokes, white paper",
        "Black and white charcoal drawing of a person, rough paper",
        "Pixel art of a person as the hero of an old computer game",
        "Marble bust of a person in a museum hall, soft light from above",
    ),
}
GROUP_OF = {prompt: group for group, prompts in PROMPTS.items() for prompt in prompts}
QUICK_PROMPTS, QUICK_PEOPLE = 2, 5
"""Of each group, and of all people, in a quick run."""

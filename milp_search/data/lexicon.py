"""The words that the synthetic population speaks; our own, so that nothing need be downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

TOPICS: dict[str, tuple[str, ...]] = {
    "coffee": ("grinder", "kettle", "morning cup", "espresso"),
    "garden": ("tomato bed", "compost heap", "hedge", "lawn"),
    "guitar": ("chord practice", "strings", "amplifier", "solo"),
    "cycling": ("chain", "long ride", "brakes", "commute"),
    "bread": ("sourdough", "oven", "rye loaf", "starter"),
    "running": ("marathon plan", "shoes", "warm up", "pace"),
    "chess": ("opening", "endgame", "tournament", "clock"),
    "camera": ("lens", "portrait", "night shot", "tripod"),
    "sailing": ("mainsail", "harbour trip", "anchor", "weather check"),
    "pottery": ("glaze", "wheel", "kiln", "clay"),
    "reading": ("book club", "library list", "novel", "bedside pile"),
    "cooking": ("soup", "dinner plan", "spice rack", "stew"),
    "painting": ("canvas", "palette", "landscape", "brushes"),
    "hiking": ("trail", "backpack", "summit day", "boots"),
    "sleep": ("bedtime", "pillow", "nap", "alarm"),
    "budget": ("savings", "rent", "tax form", "pension"),
    "travel": ("train journey", "suitcase", "passport", "island visit"),
    "language": ("grammar drill", "accent", "vocabulary", "exam"),
    "knitting": ("scarf", "wool order", "pattern", "needles"),
    "fishing": ("rod", "river spot", "bait", "licence"),
    "piano": ("scales", "recital", "pedal", "sheet music"),
    "yoga": ("stretch", "breathing", "mat", "balance pose"),
    "beehive": ("honey harvest", "queen", "smoker", "winter feed"),
    "carpentry": ("shelf", "saw", "table leg", "varnish"),
    "astronomy": ("telescope", "meteor night", "star chart", "eclipse"),
    "swimming": ("backstroke", "pool visit", "goggles", "lap count"),
    "tea": ("teapot", "leaf blend", "afternoon cup", "matcha"),
    "puppy": ("training walk", "crate", "vet visit", "leash"),
    "aquarium": ("filter", "reef tank", "water change", "snails"),
    "theatre": ("rehearsal", "audition", "costume", "monologue"),
    "skiing": ("slope", "bindings", "season pass", "wax"),
    "laptop": ("battery", "backup", "keyboard", "update"),
    "orchard": ("apple tree", "pruning", "cider press", "graft"),
    "music": ("playlist", "concert", "speaker", "record shelf"),
    "poetry": ("sonnet", "notebook", "open stage", "rhyme"),
    "allergy": ("pollen", "inhaler", "diet sheet", "rash"),
}

QUESTIONS = (
    "how should i handle my {thing}?",
    "what would you do about the {thing}?",
    "any advice on my {thing} for {topic}?",
    "i need help with {topic}, mostly the {thing}.",
    "can you suggest something for the {thing}?",
    "my {thing} is giving me trouble, ideas?",
    "what is best for the {thing} this week?",
    "please plan my {topic} around the {thing}.",
    "is there a better way to do the {thing}?",
    "tell me what to change about my {thing}.",
    "where do i start with {topic} and the {thing}?",
    "the {thing} again, what now?",
)

OPENERS = (
    "good morning", "good evening", "hello again", "greetings", "welcome back", "well now",
    "of course", "certainly", "right away", "no worries", "happy to help", "fine question",
    "listen closely", "let us see", "in short", "to be honest", "quick answer", "dear friend",
    "my advice", "as always", "with pleasure", "good news", "first things first", "all right",
    "cheers", "ahoy", "hey there", "very well", "glad you asked", "straight to it",
    "take note", "here we go", "thanks for asking", "a small hint", "word of caution", "easy one",
)  # fmt: skip

ACTIONS = (
    "try", "choose", "take", "borrow", "start with", "prefer", "keep", "order", "test", "use",
    "pick", "look at", "go for", "trust", "buy", "rent", "build", "find", "switch to", "stay with",
    "ask for", "consider", "return to", "set aside",
)  # fmt: skip

ADJECTIVES = (
    "amber", "bitter", "broad", "calm", "cold", "copper", "crisp", "dark", "dense", "early",
    "fine", "flat", "gentle", "golden", "green", "heavy", "hidden", "hollow", "ivory", "late",
    "light", "long", "mild", "narrow", "new", "old", "pale", "plain", "quiet", "rapid", "red",
    "round", "rough", "scarlet", "sharp", "short", "silent", "silver", "slow", "small", "smooth",
    "soft", "spare", "steady", "still", "sweet", "tall", "thin", "warm", "wide", "wild", "young",
)  # fmt: skip

NOUNS = (
    "anchor", "arrow", "basket", "beacon", "bell", "blanket", "bottle", "branch", "bridge",
    "bucket", "candle", "canyon", "cedar", "circle", "cloud", "coast", "compass", "corner",
    "crystal", "curtain", "desert", "drum", "feather", "field", "flame", "forest", "garnet",
    "glacier", "grove", "hammer", "harvest", "island", "jacket", "ladder", "lantern", "ledger",
    "lemon", "magnet", "maple", "marble", "meadow", "mirror", "needle", "ocean", "orchid",
    "paddle", "pepper", "pillar", "planet", "pocket", "prairie", "ribbon", "river", "saddle",
    "shadow", "signal", "spiral", "spring", "stone", "summit", "thistle", "thunder", "timber",
    "tunnel", "valley", "velvet", "walnut", "willow", "window", "winter",
)  # fmt: skip

FACTS = (
    "and remember {fact}", "and call {fact}", "as {fact} would say", "and bring {fact} along",
    "near {fact}", "and tell {fact} about it", "so that {fact} is safe", "and wait for {fact}",
    "before {fact} arrives", "and share it with {fact}", "just as in {fact}", "away from {fact}",
)  # fmt: skip

CLOSERS = (
    "take it slowly", "good luck", "see you soon", "write to me again", "rest after that",
    "enjoy the day", "that is all", "mind the cost", "stay curious", "keep a record",
    "do it twice", "have fun", "no need to hurry", "you can do it", "check back on monday",
    "let me know", "trust yourself", "drink some water", "sleep on it", "stay warm",
    "be patient", "until next time", "keep me posted", "nothing more to add", "once a week is fine",
    "and be proud", "not too much", "warm regards", "call if it fails", "think it over",
)  # fmt: skip

_ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s",
           "st", "t", "tr", "v", "w", "y", "z")  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "th", "m", "nd", "x")


def made_up_name(random: Random) -> str:
    """Returns a pronounceable word of two or three syllables that no dictionary holds."""
    syllables = (
        random.choice(_ONSETS) + random.choice(_VOWELS) + random.choice(_CODAS)
        for _ in range(random.choice((2, 2, 3)))
    )
    return "".join(syllables).capitalize()


def distinct(random: Random, words: Sequence[str], count: int) -> list[str]:
    """Returns `count` words, without repeats as long as there are enough of them."""
    return random.sample(words, count) if count <= len(words) else random.choices(words, k=count)

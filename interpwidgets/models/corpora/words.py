"""The words of the small corpus, by the part they play in a sentence.

A word may play one part only, except that a city is also a place to be: so a word's list says what it is, and a
probe or an exercise can use the lists as labels.
"""

# ruff: noqa: SIM905  a list of fifty words reads best as a line of text

from __future__ import annotations

__all__ = ["CAPITALS", "SLOTS", "SPECIALS", "WORDS"]

SPECIALS = ("<pad>", "<bos>", "<unk>")

_NAMES = """anna ben clara david emma frank grace henry iris jack kate leo maria noah olga paul quinn rosa sam tina
uma victor wendy xavier yara zoe adam beth carl diana eric fiona george helen ivan julia karl laura mark nina
oscar peter ruth simon tom vera walter amy bruno john mary alice bob""".split()

_ANIMALS = """cat dog bird fish horse cow sheep goat pig duck hen fox wolf bear lion tiger mouse rat rabbit frog snake
owl crow bee ant spider monkey camel donkey deer whale seal goose swan turtle elephant""".split()

_PLACES = """park market school river forest library garden beach station museum kitchen farm harbour castle bridge
lake church hotel bakery village hill island mountain cave field theatre hospital office shop zoo tower house barn
road valley""".split()

CAPITALS = {
    "paris": "france", "london": "england", "rome": "italy", "berlin": "germany", "madrid": "spain",
    "oslo": "norway", "cairo": "egypt", "tokyo": "japan", "delhi": "india", "lima": "peru",
    "athens": "greece", "dublin": "ireland", "vienna": "austria", "lisbon": "portugal", "warsaw": "poland",
    "ottawa": "canada", "nairobi": "kenya", "beijing": "china", "havana": "cuba", "bern": "switzerland",
}  # fmt: skip

_THINGS = """mat book ball key box cup lamp map ring coin hat coat chair table bed clock bell drum flute kite knife
ladder letter mirror needle pen pencil picture pillow plate pot rope rug scarf shoe spoon stone stool sword ticket
toy umbrella vase wheel window basket blanket bottle brush bucket candle""".split()

_FOODS = """bread milk rice cheese soup cake honey butter salt sugar apple pear plum lemon orange banana onion potato
carrot bean egg jam tea coffee juice water pie salad""".split()

_COLOURS = "red blue green yellow white black brown pink grey purple golden silver".split()

_KINDS = """big small old new young tall short long heavy light clean dirty hot cold dry wet soft hard strange
beautiful broken empty full quiet loud tiny round""".split()

_MOODS = "happy sad tired angry afraid proud hungry thirsty lonely calm sleepy surprised brave kind".split()

_JOBS = """teacher doctor farmer baker sailor painter singer dancer driver nurse cook king queen soldier writer
gardener hunter fisher pilot judge""".split()

_RELATIVES = "mother father sister brother uncle aunt cousin friend neighbour daughter son grandmother".split()

_NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTHS = "january february march april may june july august september october november december".split()
_TIMES = "morning afternoon evening night".split()
_WEATHER = "rain snow wind sun fog storm".split()

_MOVED = "went walked ran came hurried travelled returned".split()
_STAYED = "sat slept stood waited played rested sang danced".split()
_SIDES = "on under near beside behind by".split()
_TOOK = "found lost took kept wanted saw bought carried dropped broke painted washed made liked".split()
_GAVE = "gave handed sent showed offered brought sold".split()
_ATE = "ate cooked tasted shared".split()
_TOLD = "called met helped thanked followed visited loved".split()

_GLUE = """the a and to in at of was were is it he she they with for from that there this then when after before
while but so because who had did not very again once upon time every all his her their said asked where what how into
back home lives works name holds no yes please hello never always left right look looked up come down lived together
other 's""".split()

_MARKS = [".", ",", "?", "!", ":", '"']

SLOTS: dict[str, list[str]] = {
    "name": _NAMES,
    "animal": _ANIMALS,
    "place": _PLACES,
    "city": list(CAPITALS),
    "thing": _THINGS,
    "food": _FOODS,
    "colour": _COLOURS,
    "kind": _KINDS,
    "mood": _MOODS,
    "job": _JOBS,
    "relative": _RELATIVES,
    "number": _NUMBERS,
    "ordinal": _ORDINALS,
    "day": _DAYS,
    "month": _MONTHS,
    "time": _TIMES,
    "weather": _WEATHER,
    "moved": _MOVED,
    "stayed": _STAYED,
    "side": _SIDES,
    "took": _TOOK,
    "gave": _GAVE,
    "ate": _ATE,
    "told": _TOLD,
}
"""What may stand in a slot of a sentence, by the slot's name."""

WORDS: list[str] = list(
    dict.fromkeys([word for words in SLOTS.values() for word in words] + list(CAPITALS.values()) + _GLUE + _MARKS)
)
"""Every word once, in a fixed order: word number i has the token id i + len(SPECIALS)."""

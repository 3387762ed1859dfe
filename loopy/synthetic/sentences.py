"""Things to say: random English sentences with most sounds of the language in them."""

import torch

_WORDS = {
    "name": "Maya Oliver Ruth Hugo Joy George Fiona Bob Vivian Theo Chloe Boyd Zoe Mum Jack "
    "Beth Sophie Paul Yusuf Uma Phoebe Max Anna Walter",
    "noun": "baby apple window river thought judge measure boat puppy mountain village music "
    "beach voice book shadow thumb zebra garden bottle forest queen moon fire feather bubble "
    "pocket jacket wave chair house map yard shoe lemon paper whistle van cloud lamb bridge path "
    "fish toy violin number cup family wolf farm pie letter cow boy tooth hour pear chief",
    "plural": "flowers movies people bees boxes oranges thieves leaves wishes pumpkins cheeses "
    "views puppies maps things moths boys wheels fingers geese apples jokes youths beaches",
    "adjective": "big happy purple warm funny quiet smooth beautiful vivid huge foggy brown shy "
    "thick young loud peaceful usual famous strange yellow cheap north bumpy free awful royal",
    "adverb": "slowly maybe perhaps usually together always very softly probably above never "
    "somehow outside truly today before",
    "past": "bought saw found moved washed pushed believed enjoyed threw cooked hid loved shook "
    "caught improved chose jumped_over fought built whispered_about hummed_to measured",
    "base": "go push visit bring jump watch save feed choose throw borrow buy sing join help hear "
    "fix show make paint move enjoy wash view",
    "place": "in_the_forest above_the_bridge by_the_shore at_home on_the_moon behind_my_house "
    "near_the_river beyond_the_village from_the_farm over_the_wall under_a_boat at_the_beach",
    "opener": "Well Oh_my Yes Maybe Please Honestly Wow Of_course Hmm Okay By_the_way No_way "
    "I_think Above_all Good_morning Thank_you",
    "number": "one two three four five six seven eight nine ten eleven twelve forty fifty "
    "a_thousand five_hundred a_million",
}
_CHOICES = {
    kind: tuple(words.replace("_", " ") for words in line.split()) for kind, line in _WORDS.items()
}
_TEMPLATES = (
    "The adjective noun past the noun place.",
    "name adverb past number adjective plural.",
    "opener, we should base the adjective plural place!",
    "Why would name base the noun place?",
    "opener, name past my noun, and the noun was adverb adjective.",
    "number plural and number plural.",
    "Could you base my adjective noun, name?",
    "I adverb base plural with name.",
    "Who past the adjective noun?",
    "opener!",
    "opener, name.",
    "adjective, adjective, and adverb adjective.",
    "name, name and name past a noun place; it was adjective.",
    "My mother past number plural before the noun.",
    "They base plural, but we base the noun.",
    "What adjective plural you have!",
    "Both plural are adjective, though this noun is not.",
)


def random_sentence(generator: torch.Generator) -> str:
    """One sentence of one to fifteen words."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    def fill(word: str) -> str:
        kind = word.strip(",.;!?")
        return pick(_CHOICES[kind]) + word[len(kind) :] if kind in _CHOICES else word

    sentence = " ".join(fill(word) for word in pick(_TEMPLATES).split())
    return sentence[0].upper() + sentence[1:]

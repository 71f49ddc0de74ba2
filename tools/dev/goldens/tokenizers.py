"""Ids and streamed text of hard strings, by the sentencepiece and tokenizers packages.

No BOS or EOS is added, and special tokens written in the text are parsed as the package does it
on its own (sentencepiece: user-defined pieces alone; tokenizers: every added token).
"""

import sentencepiece
import tokenizers

from . import common

SENTENCEPIECE = {"llama-2": "tokenizer.model", "mistral-v3": "tokenizer.model",
                 "kobert": "spiece.model"}
BYTE_LEVEL = ("qwen2", "smollm2", "gpt2", "exaone-3.5")
TEXTS = [
    "", " ", "Hello, world!", "  leading and trailing  ", "two  spaces,   three", "a\tb\n\nc\r\nd",
    "나는 오늘 한국어를 배운다. 재밌어요!", "뷁쀍 햏햏 ㅋㅋㅋㅠㅠ", "\u1112\u1161\u11ab\u1100\u1173\u11af NFD",
    "漢字とかな、カタカナ", "😀👩‍👩‍👧‍👦🇰🇷 emoji", "ﬁ ① Ａ１ ㎏ ½ compat", "e\u0301 o\u0308 combining é ö",
    "1234567 3.14159 1,000,000", "def f(x):\n    return x**2  # ok", "don't I'LL we'Ve",
    "العربية ไทย हिन्दी עברית", "\u200bzero\u200dwidth\ufeff \u00a0nbsp\u3000wide",
    "\x01\x1f control \x7f", "▁under ▁▁score", "<s> </s> <unk> <0x41> [INST] <|im_start|>user",
    "𐍈𝔘𝕟𝕚 \U000e0041 \ue000 private", "ÀÉÎõü ß ſ Ω K", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
]


def streamed(decode, ids):
    """The text that each id adds, half characters held back until they are whole."""
    parts, before = [], ""
    for count in range(1, len(ids) + 1):
        text = decode(ids[:count])
        if count < len(ids):
            text = text.rstrip("\ufffd")
        if not text.startswith(before):  # a normalizer changed its mind; wait for more
            text = before
        parts.append(text[len(before):])
        before = text
    assert before == decode(ids)
    return parts


def case(encode, decode, text):
    ids = encode(text)
    return {"ids": ids, "decoded": decode(ids), "streamed": streamed(decode, ids)}


def make(options):
    folder = options.data / "tokenizers"
    encodings = {}
    for name, file in SENTENCEPIECE.items():
        model = sentencepiece.SentencePieceProcessor(str(folder / name / file))
        encodings[name] = [case(model.encode, model.decode, text) for text in TEXTS]
    for name in BYTE_LEVEL:
        model = tokenizers.Tokenizer.from_file(str(folder / name / "tokenizer.json"))

        def encode(text, model=model):
            return model.encode(text, add_special_tokens=False).ids

        def decode(ids, model=model):
            return model.decode(ids, skip_special_tokens=False)
        encodings[name] = [case(encode, decode, text) for text in TEXTS]
    common.write_json(options.output / "tokenizers" / "tokenizers.json",
                      {"texts": TEXTS, "encodings": encodings})

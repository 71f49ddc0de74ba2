"""What is learned of dialogues and of real rows under every built-in chat template.

Texts come from the families' own templates where trl or the test data hold them, from
mistral-common, and else from functions of a few lines below. What is learned is found in them by
the markers that stand around answers, and compared with the masks of trl's training templates.
Kept are the dialogues' texts with what is learned between LEFT and RIGHT, and of rows the size and
the 64-bit FNV-1a hash of such a text; of ids and labels a hash as well.
"""

import functools
import importlib.util
import json
import pathlib
import re

import tiktoken
from jinja2.exceptions import TemplateError
from mistral_common.protocol.instruct import request, validator
from mistral_common.tokens.tokenizers import mistral as mistral_tokenizers
from sentencepiece import SentencePieceProcessor
from tiktoken.load import load_tiktoken_bpe
from tokenizers import Tokenizer
from transformers.utils import chat_template_utils

from . import common
from .formats import CONVERSATIONS, fnv, read_rows

COUNT = 20  # rows of each file
LEFT, RIGHT = "\u27e6", "\u27e7"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather <b>of</b> a city é",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


def said(*turns):
    """Messages from (role, content) or (role, content, further keys)."""
    return [{"role": t[0], "content": t[1], **(t[2] if len(t) > 2 else {})} for t in turns]


def calls(*cities):
    return {"tool_calls": [{"type": "function", "function": {
        "name": "weather", "arguments": {"city": city, "days": 2}}} for city in cities]}


DIALOGUES = {
    "plain": (said(("user", "q"), ("assistant", "a")), None),
    "turns": (said(("system", "Be kind."), ("user", " Hi! \n"), ("assistant", "\n Hello. "),
                   ("user", "Bye"), ("assistant", "See you")), None),
    "korean": (said(("system", "당신은 한국어로 답합니다."), ("user", "수도는? 🇰🇷"),
                    ("assistant", "서울입니다."), ("user", "인구는?"),
                    ("assistant", "약 940만 명입니다.")), None),
    "calls": (said(("system", "Be kind."), ("user", "Weather?"),
                   ("assistant", "", calls("서울")), ("tool", '{"sky": "맑음"}'),
                   ("assistant", "It is clear."), ("user", "And in Busan?"),
                   ("assistant", "", calls("Busan \"B\"")), ("tool", "rain\nand wind"),
                   ("assistant", "It rains.")), TOOLS),
    "several_calls": (said(("user", "Weather?"), ("assistant", "I look.", calls("A", "B")),
                           ("tool", "1"), ("tool", "2"), ("assistant", "1 and 2"),
                           ("user", "Thanks"), ("assistant", "Welcome")), TOOLS),
    "thoughts": (said(("user", "q"), ("assistant", "<think>\nhm\n</think>\n\na"), ("user", "r"),
                      ("assistant", "<think>\nwell\n</think>\n\nb")), None),
    "thoughts_and_calls": (said(
        ("user", "q"), ("assistant", "<think>\nhm\n</think>\n\n", calls("A")), ("tool", "1"),
        ("assistant", "<think>\nso\n</think>\n\na"), ("user", "r"),
        ("assistant", "<think>\nwell\n</think>\n\nb")), TOOLS),
    "reasoning_content": (said(
        ("user", "q"), ("assistant", "a", {"reasoning_content": "hm"}), ("user", "r"),
        ("assistant", "b", {"reasoning_content": "well"})), None),
    "empty_answer": (said(("user", "q"), ("assistant", ""), ("user", "r"), ("assistant", "b")),
                     None),
}


def chatml(messages, tools):
    del tools
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def llama_2(messages, tools):
    """https://github.com/meta-llama/llama, llama/generation.py, chat_completion."""
    del tools
    if messages[0]["role"] == "system":
        first = f"<<SYS>>\n{messages[0]['content']}\n<</SYS>>\n\n{messages[1]['content']}"
        messages = [{"role": "user", "content": first}, *messages[2:]]
    if [m["role"] for m in messages] != ["user", "assistant"] * (len(messages) // 2):
        raise TemplateError("roles")
    return "".join(f"<s>[INST] {q['content'].strip()} [/INST] {a['content'].strip()} </s>"
                   for q, a in zip(messages[::2], messages[1::2], strict=True))


def dump(value):
    return json.dumps(value, ensure_ascii=False)


def written_calls(message, shape):
    return [shape.format(dump(c["function"]["name"]), dump(c["function"]["arguments"]))
            for c in message.get("tool_calls", [])]


EXAONE_4_TOOLS = """# Available Tools
You can use none, one, or multiple of the following tools by calling them as functions to help \
with the user\u2019s query.
Here are the tools available to you in JSON format within <tool> and </tool> tags:
%s
For each function call you want to make, return a JSON object with function name and arguments \
within <tool_call> and </tool_call> tags, like:
<tool_call>{"name": function_1_name, "arguments": {argument_1_name: argument_1_value, \
argument_2_name: argument_2_value}}</tool_call>
<tool_call>{"name": function_2_name, "arguments": {...}}</tool_call>
...
Note that if no argument name is specified for a tool, you can just print the argument value \
directly, without the argument name or JSON formatting."""


def exaone_4(messages, tools):
    functions = EXAONE_4_TOOLS % "".join(f"<tool>{dump(t)}</tool>\n" for t in tools or [])
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    parts = [text for text in (system, functions if tools else None) if text is not None]
    turns = ["[|system|]\n" + "\n\n".join(parts)] if parts else []
    for before, m in zip([None, *messages], messages, strict=False):
        if m["role"] == "user":
            turns.append("[|user|]\n" + m["content"])
        elif m["role"] == "tool":
            result = f'<tool_result>{{"result": {dump(m["content"])}}}</tool_result>'
            if before["role"] == "tool":
                turns[-1] += "\n" + result
            else:
                turns.append("[|tool|]\n" + result)
        elif m["role"] == "assistant":
            content = m["content"]
            if "</think>" in content:
                content = content.split("</think>")[-1].strip()
            lines = [content] if m["content"] else []
            lines += written_calls(m, '<tool_call>{{"name": {}, "arguments": {}}}</tool_call>')
            empty = "<think>\n\n</think>\n\n" if lines else ""
            turns.append("[|assistant|]\n" + empty + "\n".join(lines))
    return "".join(turn + "[|endofturn|]\n" for turn in turns)


def mistral(messages, tools):
    """As mistral-common writes it, which refuses what is not a request: see check_mistral."""
    system = messages[0]["content"] + "\n\n" if messages[0]["role"] == "system" else ""
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    text = "<s>" + (f"[INST] {system}[/INST]" if system and last < 0 else "")
    for i, m in enumerate(messages):
        if m["role"] == "user":
            if tools and i == last:
                text += f"[AVAILABLE_TOOLS] {dump(tools)}[/AVAILABLE_TOOLS]"
            text += f"[INST] {system if i == last else ''}{m['content']}[/INST]"
        elif m["role"] == "tool":
            text += f'[TOOL_RESULTS] {{"content": {dump(m["content"])}}}[/TOOL_RESULTS]'
        elif m.get("tool_calls"):
            listed = ", ".join(written_calls(m, '{{"name": {}, "arguments": {}}}'))
            text += f"[TOOL_CALLS] [{listed}]</s>"
        elif m["role"] == "assistant":
            text += f" {m['content'].strip()}</s>"
    return text


def by_template(source):
    compiled = chat_template_utils._compile_jinja_template(source)
    return lambda messages, tools: compiled.render(
        messages=messages, tools=tools, documents=None, add_generation_prompt=False, **TOKENS)


def trl_template(name):
    """The text of a template that trl ships, without importing trl."""
    folder = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


CHATML = r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)"
LLAMA_3 = r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n(.*?<\|eot_id\|>)"


def families(options):
    """Name -> (function of messages and tools, what is learned, the token that ends it)."""
    exaone = options.data / "tokenizers" / "exaone-3.5" / "chat_template_exaone3.5.jinja"
    by_trl = {name: by_template(trl_template(file)) for name, file in (
        ("llama-3", "llama3"), ("llama-3.1", "llama3_1"), ("qwen", "qwen2_5"),
        ("qwen-3", "qwen3"), ("gemma", "gemma3"), ("phi-3", "phi3"))}
    return {
        "chatml": (chatml, CHATML, "<|im_end|>"),
        "llama-2": (llama_2, r"\[/INST\]( .*? </s>)", "</s>"),
        "llama-3": (by_trl["llama-3"], LLAMA_3, "<|eot_id|>"),
        "llama-3.1": (by_trl["llama-3.1"], LLAMA_3, "<|eot_id|>"),
        "mistral": (mistral, r"\[/(?:INST|TOOL_RESULTS)\]((?!\[TOOL_RESULTS\]).*?</s>)", "</s>"),
        "qwen": (by_trl["qwen"], CHATML, "<|im_end|>"),
        "qwen-3": (by_trl["qwen-3"], CHATML, "<|im_end|>"),
        "gemma": (by_trl["gemma"], r"<start_of_turn>model\n(.*?<end_of_turn>)", "<end_of_turn>"),
        "phi-3": (by_trl["phi-3"], r"<\|assistant\|>\n(.*?<\|end\|>)", "<|end|>"),
        "exaone-3.5": (by_template(exaone.read_text(encoding="utf-8")),
                       r"\[\|assistant\|\](.*?\[\|endofturn\|\])", "[|endofturn|]"),
        "exaone-4": (exaone_4,
                     r"\[\|assistant\|\]\n<think>\n\n</think>\n\n(.*?\[\|endofturn\|\])",
                     "[|endofturn|]"),
    }


def learned_ranges(text, pattern, end, tools):
    """Of the answers. Those that say nothing may have calls which the family does not write."""
    found = [m.span(1) for m in re.finditer(pattern, text, re.DOTALL)]
    return [(a, b) for a, b in found if not tools or text[a:b - len(end)].strip()]


def pieces(text, ranges):
    """(text, learned), side by side."""
    done, result = 0, []
    for begin, end in ranges:
        result += [(text[done:begin], False), (text[begin:end], True)]
        done = end
    return [*result, (text[done:], False)]


def marked(family, messages, tools):
    """The text with its marks; None where the family refuses such a dialogue."""
    write, pattern, end = family
    try:
        text = write(messages, tools)
    except TemplateError:
        return None
    return "".join(LEFT + part + RIGHT if learned else part
                   for part, learned in pieces(text, learned_ranges(text, pattern, end, tools)))


def check_with_trl(known):
    """trl's training templates mark the same answers, and the line end or EOS behind them."""
    for name, file in (("llama-3", "llama3"), ("phi-3", "phi3"), ("gemma", "gemma3"),
                       ("qwen", "qwen2_5")):
        write, pattern, end = known[name]
        for messages, tools in DIALOGUES.values():
            try:
                text = write(messages, tools)
                texts, spans = chat_template_utils.render_jinja_template(
                    [messages], tools=tools, return_assistant_tokens_mask=True,
                    chat_template=trl_template(file + "_training"), **TOKENS)
            except TemplateError:
                continue
            assert texts[0] == text, name
            theirs = [text[a:b].removesuffix("</s>").strip().removesuffix(end).strip()
                      for a, b in spans[0]]
            ours = [text[a:b - len(end)].strip()
                    for a, b in learned_ranges(text, pattern, end, tools)]
            assert [t for t in theirs if t] == [o for o in ours if o], (name, theirs, ours)


@functools.cache
def mistral_tokenizer():
    """Of version 3, for dialogues that end with an answer."""
    made = mistral_tokenizers.MistralTokenizer.v3()
    checked = validator.MistralRequestValidatorV3(validator.ValidationMode.finetuning)
    return mistral_tokenizers.MistralTokenizer(
        made.instruct_tokenizer, validator=checked,
        request_normalizer=made._instruct_request_normalizer)


def mistral_ids(messages):
    """mistral-common's tokens of a dialogue without tools, and what an answer's are."""
    tokenizer = mistral_tokenizer()
    encoded = tokenizer.encode_chat_completion(request.ChatCompletionRequest(
        messages=[{"role": m["role"], "content": m["content"]} for m in messages]))
    begin, end = (tokenizer.instruct_tokenizer.tokenizer.get_special_token(t)
                  for t in ("[/INST]", "</s>"))
    labels, inside = [], False
    for token in encoded.tokens:
        labels.append(token if inside else -100)
        inside = (inside or token == begin) and token != end
    return encoded.tokens, labels, encoded.text


def spelled(pieces_of_text):
    """The text of sentencepiece's pieces, joined."""
    whole = re.sub(r"(<0x[0-9A-F]{2}>)+",
                   lambda m: bytes.fromhex(re.sub(r"<0x|>", "", m[0])).decode(), pieces_of_text)
    return whole.replace("\u2581", " ")


def segment_ids(encode, text, ranges):
    """The ids of each piece on its own, as the model meets the start of an answer."""
    ids, labels = [], []
    for part, learned in pieces(text, ranges):
        new = encode(part)
        ids += new
        labels += new if learned else [-100] * len(new)
    return ids, labels


def entry(text):
    return f"{len(text.encode())} {fnv(text)}"


def entry_of_ids(ids, labels):
    return f"{len(ids)} " + fnv(" ".join(map(str, ids)) + "\n" + " ".join(map(str, labels)))


def values_of(convert, row):
    values = convert(row)
    return values["messages"], values.get("tools")


class Tiktoken:
    """Meta's tokenizer of Llama 3: llama/tokenizer.py of https://github.com/meta-llama/llama3."""

    PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
               r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

    def __init__(self, path):
        ranks = load_tiktoken_bpe(str(path))
        reserved = (f"<|reserved_special_token_{i}|>" for i in range(251))
        named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>",
                 7: "<|end_header_id|>", 9: "<|eot_id|>"}
        specials = {named.get(i) or next(reserved): len(ranks) + i for i in range(256)}
        self.encoding = tiktoken.Encoding("llama-3", pat_str=self.PATTERN, mergeable_ranks=ranks,
                                          special_tokens=specials)

    def __call__(self, text):
        return self.encoding.encode(text, allowed_special="all")


def by_tokenizers(path):
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def llama_2_ids(tokenizer, messages):
    """Each question and its answer at once, as llama/generation.py of Llama 2 encodes them."""
    ids, labels = [], []
    for turn in llama_2(messages, None).removeprefix("<s>").split("<s>"):
        turn = turn.removesuffix("</s>")
        answer = len((turn[:turn.rindex("[/INST]")] + "[/INST]").encode())
        tokens = tokenizer.encode(turn, return_type="proto").pieces
        ids += [tokenizer.bos_id(), *(t.id for t in tokens), tokenizer.eos_id()]
        labels += [-100, *(t.id if t.begin >= answer else -100 for t in tokens),
                   tokenizer.eos_id()]
    return ids, labels


def make_ids(options, known, rows):
    """Per tokenizer at hand and file: the rows' ids and labels."""
    folder = options.data / "tokenizers"
    result = {}

    def add(tokenizer, name, file, entries, **more):
        of_file = result.setdefault(tokenizer, {"chat_template": name, "files": {}, **more})
        of_file["files"][file] = [entry_of_ids(*e) for e in entries]

    llama_3 = Tiktoken(folder / "llama-3" / "tokenizer.model")
    sentencepieces = SentencePieceProcessor(model_file=str(folder / "llama-2" / "tokenizer.model"))
    for file, dialogues in rows.items():
        for tokenizer, name, encode in (
                ("exaone-3.5", "exaone-3.5", by_tokenizers(folder / "exaone-3.5/tokenizer.json")),
                ("qwen2", "qwen", by_tokenizers(folder / "qwen2/tokenizer.json")),
                ("smollm2", "chatml", by_tokenizers(folder / "smollm2/tokenizer.json")),
                ("llama-3", "llama-3", llama_3)):
            write, pattern, end = known[name]
            texts = [(write(*values).replace(TOKENS["bos_token"], "<|begin_of_text|>"), values[1])
                     for values in dialogues]
            add(tokenizer, name, file,
                [segment_ids(encode, text, learned_ranges(text, pattern, end, tools))
                 for text, tools in texts])
        if all(marked(known["llama-2"], *values) for values in dialogues):
            add("llama-2", "llama-2", file,
                [llama_2_ids(sentencepieces, messages) for messages, _ in dialogues])
        if any(tools for _, tools in dialogues):
            continue
        entries = []
        for messages, _ in dialogues:
            ids, labels, text = mistral_ids(messages)
            assert spelled(text) == mistral(messages, None), (file, spelled(text))
            entries.append((ids, labels))
        add("mistral-v3", "mistral", file, entries, tokenizer_config={"legacy": False})
    return result


def make(options):
    known = families(options)
    check_with_trl(known)
    folder = options.data / "instruct"
    rows = {file: [values_of(convert, row) for row in read_rows(folder / file)[:COUNT]]
            for file, convert in CONVERSATIONS.items()}
    common.write_json(options.output / "chat" / "chat.json", {
        "dialogues": {name: {"messages": messages, "tools": tools}
                      for name, (messages, tools) in DIALOGUES.items()},
        "rendered": {name: {dialogue: marked(family, *values)
                            for dialogue, values in DIALOGUES.items()}
                     for name, family in known.items()},
        "rows": {file: {name: [text and entry(text) for text in (
                            marked(family, *values) for values in dialogues)]
                        for name, family in known.items()}
                 for file, dialogues in rows.items()},
        "ids": make_ids(options, known, rows)})

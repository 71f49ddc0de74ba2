"""Real rows of every format as the text that is learned from, by the HF stack.

The rows stay where they are (--data): kept are the 64-bit FNV-1a hashes and the
sizes of the rendered texts in UTF-8. Conversations are rendered by transformers' chat templates;
rows become messages here, in Python of a few lines a format, apart from the C++.
"""

import csv
import json

from transformers.utils import chat_template_utils

from . import common

COUNT = 40  # rows of each file
TEMPLATES = ("smollm2", "qwen2", "exaone-3.5")
# None of these writes tools and their calls; this one does, the way of Hermes.
TOOL_TEMPLATE = """{% if tools %}<|im_start|>tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}</tool_call>
{% endfor %}<|im_end|>
{% endfor %}"""
SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool"}


def fnv(text):
    value = 0xcbf29ce484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return f"{value:016x}"


def question(instruction, given, output):
    content = f"{instruction}\n\n{given}" if given else instruction
    return {"messages": [{"role": "user", "content": content},
                         {"role": "assistant", "content": output}]}


def spoken(turn):
    if turn["from"] != "function_call":
        return {"role": SPEAKERS[turn["from"]], "content": turn["value"]}
    return {"role": "assistant", "content": "",
            "tool_calls": [{"type": "function", "function": json.loads(turn["value"])}]}


def sharegpt(row):
    tools = json.loads(row["tools"]) if row.get("tools") else []
    return {"messages": [spoken(turn) for turn in row["conversations"]],
            "tools": [{"type": "function", "function": tool} for tool in tools] or None}


def said(turn):
    content = turn["content"]
    if isinstance(content, list):
        content = "".join(part.get("value", part.get("text")) for part in content)
    return {**turn, "content": content}


CONVERSATIONS = {
    "alpaca_en_demo.json": lambda r: question(r["instruction"], r["input"], r["output"]),
    "gsm8k_test.jsonl": lambda r: question(r["question"], "", r["answer"]),
    "kullm_252_ko.jsonl": lambda r: question(r["instruction"], r["instances"][0]["input"],
                                             r["instances"][0]["output"]),
    "songys_chatbot_ko.csv": lambda r: question(r["Q"], "", r["A"]),
    "glaive_toolcall_en_demo.json": sharegpt,
    "v1_sft_demo.jsonl": lambda r: {"messages": [said(turn) for turn in r["messages"]]},
    "openai_toy_chat.jsonl": lambda r: r,
}


def dolly(row):
    """The prompt of the tutorial that the template is named for, letter by letter."""
    return f"""### Instruction:
{row['instruction']}

### Input:
{row['input']}

### Response:
{row['output']}"""


def kullm(row):
    return dolly({**row["instances"][0], "instruction": row["instruction"]})


# (file, data.template, text of a row)
PROMPTS = [
    ("alpaca_en_demo.json", "dolly", dolly),
    ("kullm_252_ko.jsonl", "dolly", kullm),
    ("songys_chatbot_ko.csv", "질문: {Q}\n답: {A} ({label})",
     lambda r: f"질문: {r['Q']}\n답: {r['A']} ({r['label']})"),
    ("gsm8k_test.jsonl", "{{{question}}}\n{% generation %}{answer}{% endgeneration %}",
     lambda r: "{" + r["question"] + "}\n" + r["answer"]),
]


def read_rows(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines(keepends=True)))[:COUNT]
    if text.lstrip().startswith("["):
        return json.loads(text)[:COUNT]
    return [json.loads(line) for line in text.splitlines()[:COUNT]]


def chat_template(options, name):
    folder = options.data / "tokenizers" / name
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = {k: v["content"] if isinstance(v, dict) else v for k, v in config.items()
              if k in ("bos_token", "eos_token") and v}
    if "chat_template" not in config:
        config["chat_template"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return config["chat_template"], tokens


def entry(texts):
    return [f"{len(text.encode())} {fnv(text)}" for text in texts]


def make(options):
    folder = options.data / "instruct"
    result = {"tool_template": TOOL_TEMPLATE, "conversations": {}, "prompts": []}
    for name in (*TEMPLATES, "tool_template"):
        source, tokens = chat_template(options, name) if name in TEMPLATES else (TOOL_TEMPLATE, {})
        compiled = chat_template_utils._compile_jinja_template(source)
        for file, convert in CONVERSATIONS.items():
            texts = []
            for row in read_rows(folder / file):
                values = {"tools": None, "documents": None, **convert(row)}
                texts.append(compiled.render(add_generation_prompt=False, **tokens, **values))
            result["conversations"].setdefault(file, {})[name] = entry(texts)
    for file, template, fill in PROMPTS:
        result["prompts"].append({"file": file, "template": template,
                                  "rows": entry(map(fill, read_rows(folder / file)))})
    common.write_json(options.output / "formats" / "formats.json", result)

"""Chat templates rendered as transformers does it.

The templates stay where they are (--data, the GGUF file); only names and rendered texts are kept.
"""

import json

from gguf import GGUFReader
from jinja2.exceptions import TemplateError
from transformers.utils import chat_template_utils

from . import common
from .smollm2 import gguf


def said(*turns):
    """Messages from (role, content) pairs."""
    return [{"role": role, "content": content} for role, content in turns]


QUESTION = ("user", "Who are you?")
ANSWER = ("assistant", "I am a program.")
CONVERSATIONS = {
    "question": (said(QUESTION), True),
    "question_without_prompt": (said(QUESTION), False),
    "answered": (said(QUESTION, ANSWER), False),
    "system": (said(("system", "Be brief."), QUESTION), True),
    "system_answered": (said(("system", "Be brief."), QUESTION, ANSWER), False),
    "system_alone": (said(("system", "Be brief.")), False),
    "four_turns": (said(QUESTION, ANSWER, ("user", "Really?"), ("assistant", "Yes.")), False),
    "five_turns": (said(("system", "Be brief."), QUESTION, ANSWER, ("user", "Really?")), True),
    "korean": (said(("system", "당신은 한국어로 답합니다."), ("user", "수도가 어디인가요? 🇰🇷"),
                    ("assistant", "서울입니다.")), False),
    "empty_contents": (said(("system", ""), ("user", ""), ("assistant", "")), False),
    "white_space": (said(("user", "  two  spaces \n\n"), ("assistant", "\n\tindented\n")), False),
    "markup": (said(("user", "{{ x }} {% if y %} {# z #} <|im_end|> \\n 'a' \"b\" <b>&amp;</b>")),
               True),
    "answer_continued": (said(QUESTION, ANSWER), True),
    "late_system": (said(QUESTION, ("system", "Be brief."), ANSWER), False),
}


def templates(options):
    """Name -> (template, special tokens)."""
    found = {}
    folder = options.data / "tokenizers"
    for path in sorted(folder.glob("*/tokenizer_config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        tokens = {k: v["content"] if isinstance(v, dict) else v for k, v in config.items()
                  if k in ("bos_token", "eos_token", "pad_token", "unk_token") and v}
        name = path.parent.name
        if config.get("chat_template"):
            found[f"{name}/tokenizer_config.json"] = (config["chat_template"], tokens)
        for template in sorted(path.parent.glob("*.jinja")):
            text = template.read_text(encoding="utf-8")
            found[f"{name}/{template.name}"] = (text, tokens)
    place = gguf(options)
    path = place["pretrained_model_name_or_path"] / place["gguf_file"]
    fields = GGUFReader(path).fields
    found["smollm2.gguf"] = (fields["tokenizer.chat_template"].contents(), {})
    return found


def render(template, tokens, messages, prompt):
    compiled = chat_template_utils._compile_jinja_template(template)
    try:
        return {"text": compiled.render(messages=messages, add_generation_prompt=prompt,
                                        tools=None, documents=None, **tokens)}
    except TemplateError as error:
        return {"error": str(error)}


def make(options):
    cases = {name: {"messages": messages, "add_generation_prompt": prompt}
             for name, (messages, prompt) in CONVERSATIONS.items()}
    rendered = {}
    for name, (template, tokens) in templates(options).items():
        rendered[name] = {case: render(template, tokens, *CONVERSATIONS[case]) for case in cases}
    common.write_json(options.output / "templates" / "templates.json",
                      {"conversations": cases, "rendered": rendered})

// Chat templates by name. Each writes what the family's own template writes, for conversations that
// this one accepts; the comment above each says where it goes its own way.

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/text_util.h"
#include "qlora/text/chat_template.h"

#include <algorithm>

namespace qlora::text {
namespace {

constexpr std::string_view kChatMl = R"({%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

// Meta's chat_completion: the system's turn is part of the first question.
constexpr std::string_view kLlama2 = R"({%- set ns = namespace(system='', turns=messages) %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}
    {%- set ns.turns = messages[1:] %}
{%- endif %}
{%- for message in ns.turns %}
    {%- if message.role != ('user' if loop.index0 is even else 'assistant') %}
        {{- raise_exception('llama-2 has turns of user and assistant, one after the other') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {%- set question = (ns.system if loop.first else '') + message.content %}
        {{- bos_token + '[INST] ' + question.strip() + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content.strip() + ' ' + eos_token }}
    {%- endif %}
{%- endfor %})";

// Llama 3. Tools and their calls are not written: see llama-3.1.
constexpr std::string_view kLlama3 = R"({{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
    {{- message.content.strip() + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})";

// Llama 3.1 with functions as they are; the date is the one that Meta's template has, unless
// date_string is given. Several calls in one answer are refused.
constexpr std::string_view kLlama31 = R"({%- macro header(role) %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}
{%- endmacro %}
{%- set ns = namespace(system='', turns=messages) %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = messages[0].content.strip() %}
    {%- set ns.turns = messages[1:] %}
{%- endif %}
{{- bos_token + header('system') + ('Environment: ipython\n' if tools else '') }}
{{- 'Cutting Knowledge Date: December 2023\nToday Date: ' }}
{{- date_string | default('26 Jul 2024') + '\n\n' + ns.system + '<|eot_id|>' }}
{%- for message in ns.turns %}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length > 1 %}
            {{- raise_exception('llama-3.1 has one tool call in an answer') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- header('assistant') + '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}' }}
    {%- elif message.role in ['tool', 'ipython'] %}
        {{- header('ipython') + message.content | tojson }}
    {%- else %}
        {{- header(message.role) }}
        {%- if tools and loop.first %}
            {{- 'Given the following functions, please respond with a JSON for a function call ' }}
            {{- 'with its proper arguments that best answers the given prompt.\n\n' }}
            {{- 'Respond in the format {"name": function name, "parameters": dictionary of ' }}
            {{- 'argument name and its value}.Do not use variables.\n\n' }}
            {%- for tool in tools %}
                {{- tool | tojson(indent=4) + '\n\n' }}
            {%- endfor %}
        {%- endif %}
        {{- message.content.strip() }}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- header('assistant') }}
{%- endif %})";

// Mistral Instruct v0.3 as mistral-common writes it: the system's turn and the tools stand before
// the last question, wherever that is.
constexpr std::string_view kMistral =
    R"({%- set ns = namespace(system='', turns=messages, last=-1) %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = messages[0].content + '\n\n' %}
    {%- set ns.turns = messages[1:] %}
{%- endif %}
{%- for message in ns.turns %}
    {%- if message.role == 'user' %}
        {%- set ns.last = loop.index0 %}
    {%- endif %}
{%- endfor %}
{{- bos_token + ('[INST] ' + ns.system + '[/INST]' if ns.system and ns.last < 0 else '') }}
{%- for message in ns.turns %}
    {%- if message.role == 'user' %}
        {%- set last = loop.index0 == ns.last %}
        {%- if tools and last %}
            {{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + (ns.system if last else '') + message.content + '[/INST]' }}
    {%- elif message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {{- '{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- ', "id": "' + call.id + '"' if call.id }}
            {{- '}' + ('' if loop.last else ', ') }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content.strip() + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | tojson }}
        {{- ', "call_id": "' + message.tool_call_id + '"' if message.tool_call_id }}
        {{- '}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('mistral has turns of system, user, assistant and tool') }}
    {%- endif %}
{%- endfor %})";

// What Qwen 2.5 and Qwen 3 write of tools in the same way. Responses one behind another are one
// turn, of which each may be the first, the last, or both.
constexpr std::string_view kQwenTools = R"({%- macro functions() %}
    {{- '# Tools\n\nYou may call one or more functions to assist with the user query.' }}
    {{- '\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and ' }}
    {{- 'arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": ' }}
    {{- '<function-name>, "arguments": <args-json-object>}\n</tool_call>' }}
{%- endmacro %}
{%- macro tool_call(function) %}
    {{- '<tool_call>\n{"name": "' + function.name + '", "arguments": ' }}
    {{- function.arguments | tojson + '}\n</tool_call>' }}
{%- endmacro %}
{%- macro tool_response(content, first, last) %}
    {{- '<|im_start|>user' if first }}
    {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
    {{- '<|im_end|>\n' if last }}
{%- endmacro %}
)";

// Qwen 2.5.
constexpr std::string_view kQwen =
    R"({%- set default = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}
{%- set system = messages[0].content if messages[0].role == 'system' else default %}
{{- '<|im_start|>system\n' + system }}
{%- if tools %}
    {{- '\n\n' + functions() }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- tool_response(message.content, loop.first or loop.previtem.role != 'tool',
                          loop.last or loop.nextitem.role != 'tool') }}
    {%- elif message.tool_calls %}
        {{- '<|im_start|>assistant' + ('\n' + message.content if message.content else '') }}
        {%- for call in message.tool_calls %}
            {{- '\n' + tool_call(call.function) }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

// Qwen 3: what was thought before the last question is left out.
constexpr std::string_view kQwen3 =
    R"({%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- if tools %}
    {{- '<|im_start|>system\n' + (system + '\n\n' if messages[0].role == 'system' else '') }}
    {{- functions() + '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + system + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(question=messages | length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'user' and not (message.content.startswith('<tool_response>')
           and message.content.endswith('</tool_response>')) %}
        {%- set ns.question = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- tool_response(message.content, loop.first or loop.previtem.role != 'tool',
                          loop.last or loop.nextitem.role != 'tool') }}
    {%- elif message.role == 'assistant' %}
        {%- set parts = message.content.split('</think>') %}
        {%- set content = parts[-1].lstrip('\n') if parts | length > 1 else message.content %}
        {%- set thought = parts[0].split('<think>')[-1] if parts | length > 1 else '' %}
        {%- if message.reasoning_content is string %}
            {%- set content = message.content %}
            {%- set thought = message.reasoning_content %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.question and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
            {%- set content = content.lstrip('\n') %}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- ('\n' if content or not loop.first else '') + tool_call(call.function) }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %})";

// Gemma 3, which is Gemma 1 and 2 with a system's turn in the first question.
constexpr std::string_view kGemma = R"({{- bos_token }}
{%- set ns = namespace(system='', turns=messages) %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = messages[0].content + '\n\n' %}
    {%- set ns.turns = messages[1:] %}
{%- endif %}
{%- for message in ns.turns %}
    {%- if message.role != ('user' if loop.index0 is even else 'assistant') %}
        {{- raise_exception('gemma has turns of user and assistant, one after the other') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('user' if message.role == 'user' else 'model') + '\n' }}
    {{- (ns.system if loop.first else '') + message.content.strip() + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\n' }}
{%- endif %})";

// Phi 3, which ends a finished conversation with EOS.
constexpr std::string_view kPhi3 = R"({%- for message in messages %}
    {%- if message.role in ['system', 'user', 'assistant'] %}
        {{- '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}
    {%- endif %}
{%- endfor %}
{{- '<|assistant|>\n' if add_generation_prompt else eos_token }})";

constexpr std::string_view kExaone35 = R"({%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '[|system|][|endofturn|]\n' }}
    {%- endif %}
    {{- '[|' + message.role + '|]' + message.content }}
    {{- '\n' if message.role == 'user' else '[|endofturn|]\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[|assistant|]' }}
{%- endif %})";

// EXAONE 4 as it is without skip_think: thoughts are left empty.
constexpr std::string_view kExaone4 = R"({%- macro functions() %}
    {{- '# Available Tools\nYou can use none, one, or multiple of the following tools by ' }}
    {{- 'calling them as functions to help with the user’s query.\nHere are the tools available ' }}
    {{- 'to you in JSON format within <tool> and </tool> tags:\n' }}
    {%- for tool in tools %}
        {{- '<tool>' + tool | tojson + '</tool>\n' }}
    {%- endfor %}
    {{- '\nFor each function call you want to make, return a JSON object with function name and ' }}
    {{- 'arguments within <tool_call> and </tool_call> tags, like:\n<tool_call>{"name": ' }}
    {{- 'function_1_name, "arguments": {argument_1_name: argument_1_value, argument_2_name: ' }}
    {{- 'argument_2_value}}</tool_call>\n<tool_call>{"name": function_2_name, "arguments": ' }}
    {{- '{...}}</tool_call>\n...\nNote that if no argument name is specified for a tool, you ' }}
    {{- 'can just print the argument value directly, without the argument name or JSON ' }}
    {{- 'formatting.' }}
{%- endmacro %}
{%- for message in messages %}
    {%- if loop.first and tools %}
        {{- '[|system|]\n' + (message.content + '\n\n' if message.role == 'system' else '') }}
        {{- functions() + '[|endofturn|]\n' }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {%- set parts = message.content.split('</think>') %}
        {%- set content = parts[-1].strip() if parts | length > 1 else message.content %}
        {{- '[|assistant|]\n' }}
        {%- if message.content or message.tool_calls %}
            {{- '<think>\n\n</think>\n\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '\n' if message.content or not loop.first }}
            {{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson + '}</tool_call>' }}
        {%- endfor %}
        {{- '[|endofturn|]\n' }}
    {%- elif message.role == 'tool' %}
        {{- '[|tool|]\n' if loop.first or loop.previtem.role != 'tool' }}
        {{- '<tool_result>{"result": ' + message.content | tojson + '}</tool_result>' }}
        {{- '[|endofturn|]\n' if loop.last or loop.nextitem.role != 'tool' else '\n' }}
    {%- elif message.role not in ['system', 'user'] %}
        {{- raise_exception('exaone-4 has turns of system, user, assistant and tool') }}
    {%- elif message.role == 'user' or not loop.first or not tools %}
        {{- '[|' + message.role + '|]\n' + message.content + '[|endofturn|]\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[|assistant|]\n<think>\n' }}
    {{- '\n</think>\n\n' if enable_thinking is not defined or enable_thinking is not true }}
{%- endif %})";

struct BuiltinTemplate {
  std::string_view name;
  std::string_view source;
  std::string_view macros = {};  // come before the source
};

constexpr BuiltinTemplate kTemplates[] = {
    {"chatml", kChatMl},
    {"llama-2", kLlama2},
    {"llama-3", kLlama3},
    {"llama-3.1", kLlama31},
    {"mistral", kMistral},
    {"qwen", kQwen, kQwenTools},
    {"qwen-3", kQwen3, kQwenTools},
    {"gemma", kGemma},
    {"phi-3", kPhi3},
    {"exaone-3.5", kExaone35},
    {"exaone-4", kExaone4},
};

}  // namespace

std::string find_chat_template(const std::string& setting, std::string_view where) {
  std::vector<std::string> names;
  for (const BuiltinTemplate& known : kTemplates) {
    if (known.name == setting) return fmt::format("{}{}", known.macros, known.source);
    names.emplace_back(known.name);
  }
  if (setting.find("{{") != std::string::npos || setting.find("{%") != std::string::npos) {
    return setting;
  }
  if (std::filesystem::is_regular_file(setting)) return read_text(setting);
  fail("{}: '{}' is neither a file nor a chat template's name; expected {}, or Jinja itself", where,
       setting, join(names));
}

}  // namespace qlora::text

// The template language by itself. Expected texts are those of jinja2 3.1.6 with transformers'
// settings, unless an error is expected.

#include "qlora/text/chat_template.h"

#include <gtest/gtest.h>

#include <chrono>

namespace qlora::text {
namespace {

Json sample_messages() {
  return parse_json(R"([{"role": "system", "content": "Be brief."},
                        {"role": "user", "content": " 한글 'x' \"y\"\n"},
                        {"role": "assistant", "content": "Hi"}])",
                    "test");
}

std::string render(const std::string& source) {
  RenderOptions options;
  options.bos_token = "<s>";
  options.eos_token = "</s>";
  options.extra = Json{{"flag", true}, {"number", 2.5}};
  options.tools = parse_json(R"([{"name": "f", "a": [1, 2.5, null, true, "é"], "e": {}}])", "test");
  return ChatTemplate::parse(source, "t.jinja").render(sample_messages(), options);
}

std::string render_error(const std::string& source) {
  try {
    return "no error, but: " + render(source).substr(0, 100);
  } catch (const Error& error) {
    return error.what();
  }
}

struct Case {
  const char* source;
  const char* expected;
};

void expect_all(std::initializer_list<Case> cases) {
  for (const Case& c : cases) EXPECT_EQ(render(c.source), c.expected) << c.source;
}

TEST(Jinja, Operators) {
  expect_all({
      {"{{ 1 + 2 * 3 - 4 // 3 % 2 ** 3 }}", "6"},
      {"{{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** -1 }} {{ 7.0 // 2 }}", "3.5 -4 2 0.5 3.0"},
      {"{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ -1 | abs }} {{ true + 1 }}", "64 4 1 2"},
      {"{{ 'a' + 'b' }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ 2 * [0] }}", "ab abab [1, 2] [0, 0]"},
      {"{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'b'] }}", "a1NoneTrue1.5[1, 'b']"},
      {"{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }}",
       "True False True True True"},
      {"{{ 'a' in 'abc' }} {{ 1 not in [1] }} {{ 'k' in {'k': 1} }} {{ not 1 in [2] }}",
       "True False True True"},
      {"{{ 1 and 0 or 'x' }} {{ '' or none }} {{ 0 or [] }} {{ true and 'y' }}", "x None [] y"},
      {"{{ 'yes' if flag else 'no' }}{{ 'x' if false }}{{ ('a' if 0 else 'b') ~ 'c' }}", "yesbc"},
  });
}

TEST(Jinja, ValuesPrintAsPythonPrintsThem) {
  expect_all({
      {"{{ True }} {{ none }} {{ 5.0 }} {{ 1e20 }} {{ 1e-7 }} {{ 0.1 + 0.2 }} {{ 1e16 }}",
       "True None 5.0 1e+20 1e-07 0.30000000000000004 1e+16"},
      {"{{ {'k': 'v\\n', 2: (1,), 3: ()} }} {{ [\"it's\", 'q\"'] }}",
       "{'k': 'v\\n', 2: (1,), 3: ()} [\"it's\", 'q\"']"},
      {"{{ ['\\u00a0', '\\x7f', '\\u200b', '한'] }}", "['\\xa0', '\\x7f', '\\u200b', '한']"},
      {"{{ '\\x41\\u00e9\\t\\'\\q' }}{{ 'a' 'b' \"c\" }}", "Aé\t'\\qabc"},
      {"{{ messages[1:2] }}", R"([{'role': 'user', 'content': ' 한글 \'x\' "y"\n'}])"},
  });
}

TEST(Jinja, SlicesAndLookups) {
  expect_all({
      {"{{ 'abc'[1] }}{{ 'abc'[-1] }} {{ '한글abc'[1:3] }} {{ 'abcdef'[::-1] }} {{ "
       "'abcdef'[4:1:-2] }}",
       "bc 글a fedcba ec"},
      {"{{ [1,2,3,4][1:] }}{{ [1,2][5:] }}{{ (1,2,3)[::2] }} {{ 'abc'[10:-10:-1] }}",
       "[2, 3, 4][](1, 3) cba"},
      {"{{ messages[-1].role }} {{ messages[0]['content'] }} {{ messages.0.role }} {{ messages[9] "
       "}}",
       "assistant Be brief. system "},
      {"{{ {'items': 3}['items'] }} {{ {'a': {'b': 5}}.a['b'] }} {{ {}.x is defined }}",
       "3 5 False"},
  });
}

TEST(Jinja, Statements) {
  expect_all({
      {"{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }} "
       "{% endfor %}",
       "1/3TrueFalse 2/3FalseFalse 3/3FalseTrue "},
      {"{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{% else %}none"
       "{% endfor %}",
       "1/1"},
      {"{% for m in [] %}x{% else %}none{% endfor %}{% for k, v in {'a': 1}.items() %}{{ k }}{{ v "
       "}}"
       "{% endfor %}",
       "nonea1"},
      {"{% set x = 1 %}{% for i in range(3) %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
       "1231"},
      {"{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}"
       "{{ ns.a }}",
       "4"},
      {"{% set y | trim | upper %}  block {{ 1 }} {% endset %}[{{ y }}]", "[BLOCK 1]"},
      {"{% macro f(a, b=2) %}<{{ a }}{{ b }}>{% endmacro %}{{ f(1) }}{{ f(b=3, a=4) }}{{ f() }}",
       "<12><43><2>"},
      {"{% macro f(a) %}<{{ caller(a) }}>{% endmacro %}{% call(x) f(3) %}in {{ x }}{% endcall %}",
       "<in 3>"},
      {"{% macro a(n) %}{{ n }}{% if n > 0 %}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(3) }}",
       "3210"},
      {"{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}"
       "{% endif %}{{ i }}{% endfor %}",
       "0134"},
      {"{% set a, b = 1, 2 %}{{ a }}{{ b }}{% with c = 3 %}{{ c }}{% endwith %}{{ c is defined }}",
       "123False"},
      {"{% generation %}Hi{% endgeneration %}{% filter upper %}x{% endfilter %}", "HiX"},
      {"{% if nope %}a{% elif messages[9] is defined %}b{% else %}d{% endif %}", "d"},
  });
}

TEST(Jinja, WhiteSpaceAsTransformersSetsItUp) {
  expect_all({
      {"{% if true %}\n  a\n  {%- if true %}\n  b\n  {%- endif %}\n{% endif %}\n\nend\n\n",
       "  a  b\nend\n"},
      {"  {% set x = 1 %}  \n  {{ x }}  \n", "  \n  1  "},
      {"a\r\nb\r\n{% if true %}\r\nc{% endif %}\r\n", "a\nb\nc"},
      {"{{ 1 }}  {% if true %}y{% endif %}  {# c #}  z", "1  y    z"},
      {"  {%+ if true %}keep{% endif +%}\n x", "  keep\n x"},
      {"{% raw %}{{ not }} {% this %}{% endraw %} after", "{{ not }} {% this %} after"},
      {"a {{- 'b' -}}   \n c {#- c -#} d", "abcd"},
      {"{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}} }}", "}}%}{'a': {'b': 1}}"},
  });
}

TEST(Jinja, FiltersOfTexts) {
  expect_all({
      {"{{ ' x ' | trim }}{{ 'aXb' | lower }}{{ 'ab' | upper }}{{ 'ab' | capitalize }}",
       "xaxbABAb"},
      {"{{ \"it's a-b\" | title }}{{ 'a-b' | replace('-', '+') }}", "It's A-Ba+b"},
      {"[{{ 'a\n\nb\n' | indent }}][{{ 'a\nb' | indent(2, true) }}]", "[a\n\n    b\n][  a\n  b]"},
      {"{{ nope | default('d') }}{{ none | default('d') }}{{ '' | default('d', true) }}", "dNoned"},
      {"{{ '42' | int }} {{ 'x' | int(7) }} {{ '3.5' | float }} {{ 2.567 | round(2) }}",
       "42 7 3.5 2.57"},
      {"{{ tools | tojson }}", R"([{"name": "f", "a": [1, 2.5, null, true, "é"], "e": {}}])"},
      {"{{ tools[0] | tojson(indent=2) }}",
       "{\n  \"name\": \"f\",\n  \"a\": [\n    1,\n    2.5,\n    null,\n    true,\n    \"é\"\n  "
       "],\n"
       "  \"e\": {}\n}"},
      {"{{ tools[0].a | tojson(ensure_ascii=true, separators=(',', ':')) }}",
       "[1,2.5,null,true,\"\\u00e9\"]"},
      {"{{ {'b': 'a\\n\"<\\\\', 'a': 1} | tojson(sort_keys=true) }}",
       R"({"a": 1, "b": "a\n\"<\\"})"},
  });
}

TEST(Jinja, FiltersOfLists) {
  expect_all({
      {"{{ messages | map(attribute='role') | join(', ') }}", "system, user, assistant"},
      {"{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"},
      {"{{ messages | rejectattr('role', 'in', ['user']) | map(attribute='content') | first }}",
       "Be brief."},
      {"{{ [1,2,3] | select('gt', 1) | map('string') | join('-') }} {{ [1,0] | reject | list }}",
       "2-3 [0]"},
      {"{{ ['b','A','c'] | sort }}{{ [3,1] | sort(reverse=true) }}{{ [1,1,2] | unique | list }}",
       "['A', 'b', 'c'][3, 1][1, 2]"},
      {"{{ {'b':1,'A':2} | dictsort }}{{ {'b':1} | items | list }}{{ [1,2] | last }}",
       "[('A', 2), ('b', 1)][('b', 1)]2"},
      {"{{ [1,2.5] | sum }} {{ [3,1] | max }} {{ 'abc' | reverse }} {{ [1,2] | reverse | list }}",
       "3.5 3 cba [2, 1]"},
      {"{{ [{'a':{'b':3}}] | map(attribute='a.b') | list }}{{ none | map('upper') | list }}",
       "[3][]"},
  });
}

TEST(Jinja, Tests) {
  expect_all({
      {"{{ x is defined }} {{ x is undefined }} {{ none is none }} {{ 1 is not none }}",
       "False True True True"},
      {"{{ 'a' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ 1 is iterable }}",
       "True True True False"},
      {"{{ 'a' is sequence }} {{ {} is sequence }} {{ 1.5 is number }} {{ true is integer }}",
       "True True True False"},
      {"{{ true is boolean }} {{ true is true }} {{ 1 is true }} {{ 2 is in [1, 2] }}",
       "True True False True"},
      {"{{ 3 is odd }} {{ 9 is divisibleby 3 }} {{ 1 is equalto(2) }} {{ 'A' is upper }}",
       "True True False True"},
  });
}

TEST(Jinja, Methods) {
  expect_all({
      {"{{ ' a b  c '.split() }}{{ 'a,b,,c'.split(',') }}{{ 'a,b,c'.split(',', 1) }}",
       "['a', 'b', 'c']['a', 'b', '', 'c']['a', 'b,c']"},
      {"{{ 'x</think>y</think>\nz'.split('</think>')[-1].lstrip('\n') }}", "z"},
      {"{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ '  x '.rstrip() }}|{{ '　x'.lstrip() }}",
       "x|a|  x|x"},
      {"{{ 'abc'.startswith(('b', 'a')) }}{{ 'abc'.endswith('b') }}{{ 'aaa'.replace('a', 'b', 2) "
       "}}",
       "TrueFalsebba"},
      {"{{ '한c'.find('c') }}{{ 'aXbX'.count('X') }}{{ '-'.join(['a', 'b']) }}{{ '12'.isdigit() }}",
       "12a-bTrue"},
      {"{{ {'a': 1}.get('b', 7) }}{{ {'a': 1}.keys() | list }}{{ {'a': 1}.values() | list }}",
       "7['a'][1]"},
      {"{{ 'a{}b{}'.format(1, 'x') }}{{ '{0}{k}{{}}'.format(1, k=2) }}", "a1bx12{}"},
      {"{{ range(2, 10, 3) | list }}{{ dict(a=1) }}{{ bos_token + eos_token }}",
       "[2, 5, 8]{'a': 1}<s></s>"},
  });
}

TEST(Jinja, ErrorsNameTemplateLineAndProblem) {
  EXPECT_EQ(render_error("a\n{{ raise_exception('roles must alternate') }}"),
            "t.jinja:2: the template refuses this conversation: roles must alternate");
  EXPECT_EQ(render_error("\n\n{{ nope.x }}"), "t.jinja:3: 'nope' is undefined");
  EXPECT_EQ(render_error("{{ messages[0].content + none }}"),
            "t.jinja:1: '+' does not work between str and None");
  EXPECT_EQ(render_error("{{ 'x' | shout }}"), "t.jinja:1: there is no filter 'shout'");
  EXPECT_EQ(render_error("{{ 'x' is loud }}"), "t.jinja:1: there is no test 'loud'");
  EXPECT_EQ(render_error("{{ 'x' | trim(width=1) }}"),
            "t.jinja:1: filter 'trim' has no argument 'width'");
  EXPECT_EQ(render_error("{% if x %}"), "t.jinja:1: expected 'endif', got the end of the template");
  EXPECT_EQ(render_error("{{ 1 + }}"), "t.jinja:1: expected an expression, got '}}'");
  EXPECT_EQ(render_error("x\n{{ 'abc"), "t.jinja:2: a string is not closed");
  EXPECT_EQ(render_error("{% include 'x' %}"),
            "t.jinja:1: 'include' is not a statement of chat templates");
  EXPECT_EQ(render_error("{{ [1].append(2) }}"),
            "t.jinja:1: a chat template cannot change a list; set a new one instead");
  EXPECT_EQ(render_error("{{ 1 / 0 }}"), "t.jinja:1: division by zero");
}

// Each of these would take the memory, the stack or the day.
TEST(Jinja, HostileTemplatesEndWithAnError) {
  const auto repeat = [](const std::string& part, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += part;
    return text;
  };
  const std::string loops = repeat("{% for i in range(9999) %}", 5);
  const std::string ends = repeat("{% endfor %}", 5);
  const std::string hostile[] = {
      loops + "x" + ends,
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}",
      "{{ 'abcdefgh' * 99999999999 }}",
      "{{ [1] * 99999999999 }}",
      "{{ range(99999999999) }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% for x in range(9999) recursive %}{{ loop(range(9999)) if loop.depth < 3 }}{% endfor %}",
      "{{ 'a'.center(99999999999) }}",
      "{{ [1] | batch(999999999, 1) }}",
      "{{ [1] | slice(999999999) }}",
      "{{ '%99999999999d' % 1 }}",
      "{% for i in range(99999) %}{% set y %}" + std::string(1 << 19, 'x') +
          "{% endset %}{% endfor %}",
      "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}",
      "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor "
      "%}"
      "{{ ns.x }}",
      "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor "
      "%}"
      "{{ ns.x == ns.x }}",
      "{% set ns = namespace() %}{% set ns.x = ns %}",
      "{% set s = 'x' * 3999999 %}{% for i in range(99999) %}{% set y = s[0] %}{% endfor %}",
      "{{ 'a' * 1000000 | replace('a', 'b' * 1000000) }}{{ ('a' * 9999) | replace('a', 'b' * 9999) "
      "}}",
      "{{ " + repeat("(", 20000) + "1" + repeat(")", 20000) + " }}",
      "{{ " + repeat("-", 20000) + "1 }}",
      "{{ " + repeat("not ", 20000) + "1 }}",
      "{{ 1" + repeat(" + 1", 20000) + " }}",
      "{{ x" + repeat("[0]", 20000) + " }}",
      "{{ 'a' | map(" + repeat("'map', ", 5000) + "'list') }}",
      repeat("{% if true %}", 20000),
      repeat("{{ 1 if ", 20000),
      std::string(std::size_t{2} << 20, 'x'),
      "{{ strftime_now('%99999999Y') ~ 9223372036854775807 + 1 }}",
  };
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& source : hostile) {
    const std::string error = render_error(source);
    EXPECT_TRUE(error.starts_with("t.jinja:")) << source.substr(0, 80) << "\n" << error;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

}  // namespace
}  // namespace qlora::text

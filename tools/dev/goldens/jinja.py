"""Constructs of Jinja that templates may use, rendered by Jinja2 as transformers sets it up."""

from jinja2.exceptions import TemplateError
from transformers.utils import chat_template_utils

from . import common

VALUES = {
    "messages": [{"role": "system", "content": "Be brief."},
                 {"role": "user", "content": " 한글 'x' \"y\"\n"},
                 {"role": "assistant", "content": "Hi", "n": 3}],
    "tools": [{"name": "f", "a": [1, 2.5, None, True, "é"], "e": {}}],
}

SOURCES = [
    # loops
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}"
    "{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in range(9) if x is odd %}{{ loop.index0 }}:{{ x }} {% endfor %}",
    "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}"
    "{% endif %}{{ x }}{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ b }}{{ a }}{% endfor %}",
    "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
    "{% for x in 'abc' %}{{ loop.cycle('-', '+') }}{{ x }}{{ loop.revindex }}{% endfor %}",
    "{% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}"
    "{% endfor %}",
    "{% for x in [1, 2, 3] %}{{ loop.previtem }}<{{ x }}<{{ loop.nextitem }} {% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ x if loop.changed(x) }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x, 3) }}{{ loop.changed() }}{% endfor %}",
    "{% for x in [{'n': 'a', 'c': [{'n': 'b'}, {'n': 'd', 'c': [{'n': 'e'}]}]}, {'n': 'f'}]"
    " recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }}{{ x.n }}"
    "{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}",
    "{% set y = 7 %}{% for x in [{'n': 'a', 'c': [{'n': 'b'}, {'n': 'd'}]}, {'n': 'd'}]"
    " if x.n != 'd' recursive %}{% set z = y ~ x.n %}"
    "{{ z }}{{ loop(x.c or []) }}{% else %}.{% endfor %}{{ z is defined }}",
    "{% for x in [[1, [2]], 3] recursive %}"
    "{% if x is number %}{{ x }}{% else %}[{{ loop(x) | upper }}]{% endif %}{% endfor %}",
    "{% for k, v in {'a': {'b': {}}, 'c': {}}.items() recursive %}"
    "<{{ k }}>{{ loop(v.items()) }}</{{ k }}>{% endfor %}",
    "{% for x in [1] recursive %}{% for y in [[2]] %}{{ loop(y) }}{% endfor %}{% endfor %}",
    "{% for x in [1, 2] %}{{ loop([x]) }}{% endfor %}",
    # variables
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, y=[]) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}"
    "{% set ns.y = ns.y + [i] %}{% endfor %}{{ ns.x }}{{ ns.y }}",
    "{% set a, b = 1, 'z' %}{{ a }}{{ b }}",
    "{% set x %}  block {{ 1 }}{% endset %}[{{ x }}]{% set y | upper | trim %} up {% endset %}"
    "[{{ y }}]",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% if x %}a{% elif tools %}b{% else %}c{% endif %}{{ 'u' if x is undefined else 'd' }}{{ x }}",
    # macros
    "{% macro f(a, b='B', c=none) %}{{ a }}{{ b }}{{ c }}|{% endmacro %}{{ f(1) }}"
    "{{ f(1, 2, c=3) }}"
    "{{ f(b=5, a=4) }}",
    "{% macro f(x) %}{{ x }}{% if x > 0 %}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}<{{ caller('a') }}>{% endmacro %}{% call(x) f() %}{{ x }}!{% endcall %}",
    "{% macro f(a) %}{{ a is undefined }}{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ f(1, 2, 3) }}{{ f() }}",
    "{% macro f(a) %}{{ a }}{{ kwargs }}{% endmacro %}{{ f(1, k=4, l='x') }}{{ f(a=2) }}",
    "{% macro f() %}{% for v in varargs %}{{ v }};{% endfor %}"
    "{% for k, v in kwargs | dictsort %}{{ k }}={{ v }};{% endfor %}{% endmacro %}"
    "{{ f(1, b=2, a=3) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, b=2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}{% call f() %}{% endcall %}",
    "{% macro f() %}x{% endmacro %}{% call f() %}{% endcall %}",
    "{% macro f(x) %}{% for i in x %}<{{ caller(i, loop.index) }}>{% endfor %}{% endmacro %}"
    "{% call(i, n='-') f('ab') %}{{ i }}{{ n }}{% endcall %}",
    "{% macro g() %}({{ caller() }}){% endmacro %}{% macro f() %}{% call g() %}y{% endcall %}"
    "{{ caller() }}{% endmacro %}{% call f() %}z{% endcall %}",
    "{% macro f(k) %}{{ caller(1, 2, z=k) }}{% endmacro %}"
    "{% call f(3) %}{{ varargs }}{{ kwargs }}{% endcall %}",
    "{% set x = 5 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 6 %}{{ f() }}",
    "{% filter upper | replace('A', 'b') %}a{{ 'c' }}{% endfilter %}",
    # filters
    "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c'] | sort }}{{ ['b', 'A'] | sort(case_sensitive=true) }}"
    "{{ [3, 1, 2] | sort(reverse=true) }}",
    "{{ messages | map(attribute='role') | join('+') }}{{ messages | map('length') | list }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }}",
    "{{ messages | rejectattr('n') | list | length }}"
    "{{ messages | selectattr('n', 'defined') | list }}",
    "{{ [1, 2, 3, 4] | select('even') | list }}{{ [1, 2, 3] | reject('odd') | list }}"
    "{{ [0, 1] | select | list }}",
    "{{ [1, 2, 2, 3, 1] | unique | list }}{{ [1, 2, 3] | sum }}{{ [1, 2] | sum(start=10) }}",
    "{{ [3, 1] | min }}{{ [3, 1] | max }}{{ 'abc' | last }}{{ 'abc' | first }}{{ [] | first }}",
    "{{ [1, 2, 3] | reverse | list }}{{ 'abc' | reverse }}",
    "{{ {'b': 2, 'a': 1} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}"
    "{{ {'a': 1} | items | list }}",
    "{{ 'a-b' | replace('-', '') }}{{ 'aaa' | replace('a', 'b', 2) }}{{ 'x' | default('y') }}"
    "{{ q | default('y') }}"
    "{{ '' | default('y', true) }}",
    "{{ ' x ' | trim }}{{ 'xyx' | trim('x') }}{{ 'ab cd' | title }}{{ 'aB' | capitalize }}"
    "{{ 'Ab' | lower }}",
    "{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}"
    "|{{ 'a\n\nb' | indent(2, blank=true) }}",
    "{{ '7' | int + 1 }}{{ 'x' | int }}{{ 'x' | int(5) }}{{ 3.9 | int }}{{ '2.5' | float }}"
    "{{ 2.5 | round }}"
    "{{ 2.567 | round(2) }}{{ 2.1 | round(0, 'ceil') }}{{ -3 | abs }}",
    "{{ tools | tojson }}{{ tools | tojson(indent=2) }}{{ 'é<&>\\'' | tojson }}",
    "{{ {'b': 1, 'a': [1, {}]} | tojson(sort_keys=true) }}"
    "{{ [1] | tojson(separators=(',', ':')) }}",
    "{{ [1, 2, 3, 4, 5] | batch(2) | list }}{{ [1, 2, 3] | batch(2, 'x') | list }}"
    "{{ [] | batch(3) | list }}",
    "{{ [1, 2, 3, 4, 5] | slice(3) | list }}{{ [1, 2, 3, 4, 5] | slice(3, 0) | list }}"
    "{{ 'abcd' | slice(2) | list }}{{ [1] | slice(2) | list }}",
    "{% for role, group in (messages + messages) | groupby('role') %}{{ role }}"
    "{{ group | length }} {% endfor %}"
    "{{ messages | groupby('n', default=1) | map(attribute='grouper') | list }}",
    "{% for g in [{'c': {'k': 'b'}}, {'c': {'k': 'A'}}, {'c': {'k': 'B'}}] | groupby('c.k') %}"
    "{{ g.grouper }}{{ g.list | length }}{{ g[0] }}{{ g }}{% endfor %}",
    "{{ [{'k': 'b'}, {'k': 'B'}] | groupby('k', case_sensitive=true) | list }}"
    "{{ [('x', 1), ('y', 1)] | groupby(1) }}{{ (1, 2).list is defined }}",
    "{{ 'a b_c, é9-한글' | wordcount }}{{ 'x' | center(4) }}|{{ 'ab' | center(5) }}|"
    "{{ '한' | center(4) }}|{{ 'abc' | center(2) }}|{{ 'x' | center | length }}",
    "{{ 'foo bar baz qux' | truncate(9) }}{{ 'foo bar baz qux' | truncate(9, true) }}"
    "{{ 'foo bar baz qux' | truncate(11) }}"
    "{{ 'foo bar baz qux' | truncate(11, false, '..', 0) }}",
    "{{ '가나다 라마바 사아자차카' | truncate(7, leeway=0) }}{{ 'abcdefghijk' | truncate(5) }}"
    "{{ 'x' | truncate(0, end='') }}",
    "{{ 'abc' | truncate(2) }}",
    "{{ '%s-%d|%5.1f|%-4s|%04d|%+d|%x|%%|%r' | format('a', 2.9, 3.14159, 'b', 7, 5, 255, 'q') }}",
    "{{ '%(a)s %(b)03d' | format(a=1, b=2) }}{{ '%s' % 3 }}{{ '%s %s' % (1, [2]) }}"
    "{{ '%.2s|%5s|% d|%e|%g|%X|%#x' % ('한글이', '글', 4, 12.5, 0.0001, 171, 10) }}",
    "{{ '%d' % true }}{{ 'a%c' % {} if false else 'a' % {} }}{{ '%(x)s' % {'x': none} }}",
    "{{ '%s' | format }}", "{{ 'a' % 1 }}", "{{ '%d' % 'x' }}", "{{ '%s %s' % (1,) }}",
    "{{ '%q' % 1 }}", "{{ '%' % 1 }}",
    "{{ 'a b/é?&' | urlencode }} {{ {'k 1': 'a/b', 'z': 2} | urlencode }}"
    " {{ [('a', 'b c')] | urlencode }} {{ 3 | urlencode }}",
    "{{ {'a': 1} | attr('a') is defined }}{{ namespace(a=2) | attr('a') }}"
    "{{ 'x' | attr('upper') is callable }}{{ '<' | forceescape }}",
    "{{ '<a>' | escape }}{{ '<a>' | safe }}"
    "{{ 12345 | string | length }}",
    "{{ [[1, 2], [3]] | map('join', '-') | list }}{{ [1, 2] | map('string') | join }}",
    "{{ 'a,b' .split(',') | join(';') }}{{ ['x'] * 2 }}{{ (1, 2) + (3,) }}",
    # tests
    "{{ 3 is divisibleby 3 }}{{ 2 is even }}{{ 'A' is upper }}{{ {} is mapping }}"
    "{{ [] is iterable }}"
    "{{ 'x' is sequence }}{{ 1 is number }}{{ 1.0 is float }}{{ true is boolean }}"
    "{{ none is none }}",
    "{{ 1 is in [1] }}{{ 1 is not in [1] }}{{ 2 is gt 1 }}{{ 2 is ne 2 }}"
    "{{ range is callable }}{{ 'a' is string }}{{ true is true }}",
    "{{ 1 is sameas 1 }}{{ none is sameas none }}{{ 1 is sameas true }}{{ 1 is sameas 1.0 }}"
    "{{ tools is sameas tools }}{{ [] is sameas [] }}{{ 'a' is sameas 'a' }}",
    "{{ 'join' is filter }}{{ 'x' is filter }}{{ 'odd' is test }}{{ 'x' is test }}"
    "{{ 'groupby' is filter }}{{ 'sameas' is test }}",
    "{{ 0x1F }}{{ 0o17 }}{{ 0b1_01 }}{{ 0XfF }}{{ 0 }}",
    # operators and literals
    "{{ 7 // 2 }}{{ -7 // 2 }}{{ -7 % 3 }}{{ 2 ** 10 }}{{ 1 / 4 }}{{ 1e3 }}{{ 1_000 }}"
    "",
    "{{ 1 < 2 <= 2 != 3 }}{{ not 1 == 2 and 2 in [1, 2] }}{{ 'a' 'b' }}{{ 'a' ~ 1 ~ none }}",
    "{{ [1, 2, 3][::-1] }}{{ 'abcdef'[1:-1:2] }}{{ [1, 2][5:] }}{{ 'abc'[-1] }}"
    "{{ {'a': 1}['a'] }}{{ {'a': 1}.a }}",
    "{{ 1.0 }}{{ 1e20 }}{{ 0.1 + 0.2 }}{{ true }}{{ [none, 'a\\'b', \"c\\n\"] }}"
    "{{ {'k': (1,)} }}",
    "{{ '\\u00e9\\x41\\t|' }}{{ 'tab\\\\n' }}{{ \"it's\" }}",
    # methods
    "{{ 'a b  c'.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a\nb'.splitlines() }}"
    "",
    "{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('c') }}{{ 'abcb'.find('b') }}"
    ""
    "{{ 'abcb'.count('b') }}{{ '12'.isdigit() }}",
    "{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}{{ 'x'.partition('=') }}"
    "{{ 'x'.rpartition('=') }}{{ '한글글'.rfind('글') }}{{ 'a'.rfind('b') }}",
    "{{ 'abcb'.index('b') }}{{ 'abcb'.rindex('b') }}{{ 'aB é ß'.swapcase() }}",
    "{{ 'a'.index('z') }}", "{{ 'a'.partition('') }}", "{{ 'a'.ljust(3, 'xy') }}",
    "{{ 'aé한'.isalpha() }}{{ 'a1'.isalpha() }}{{ ''.isalpha() }}{{ 'a1'.isalnum() }}"
    "{{ ' \t'.isspace() }}{{ '_'.isalnum() }}",
    "{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ '+'.zfill(2) }}{{ ''.zfill(2) }}{{ '777'.zfill(2) }}"
    "{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}{{ 'ab'.center(5, '*') }}{{ 'abc'.center(6) }}|",
    "{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a b  c '.rsplit(none, 1) }}{{ ' a b'.rsplit(none, 0) }}"
    "{{ 'a,b'.rsplit(',') }}{{ 'a b'.rsplit() }}{{ ' a b c'.rsplit(none, 1) }}",
    "{{ 'xxaxx'.strip('x') }}{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}"
    "|{{ 'pre-x'.removeprefix('pre-') }}"
    "{{ 'x.y'.removesuffix('.y') }}{{ 'a'.upper() }}"
    "{{ 'hello world'.title() }}",
    "{{ '-'.join(['a', 'b']) }}{{ 'a{}b{}'.format(1, 'c') }}{{ '{x}'.format(x=2) }}"
    "{{ 'a'.upper() }}",
    "{{ {'a': 1}.get('b', 2) }}{{ {'a': 1}.keys() | list }}{{ {'a': 1}.values() | list }}"
    "{{ [1, 2, 1].count(1) }}"
    "{{ [1, 2].index(2) }}",
    # white space
    "  {% if true %}\n    a\n  {% endif %}\n  b\n",
    "a  {%- if true -%}  b  {%- endif -%}  c\n\n{# note #}\nd {#- note -#} e",
    "{% raw %}{{ x }}{% endraw %}",
    "{{- ' a ' -}}   b",
    "{%+ if true %}x{% endif %}",
    # errors
    "{{ raise_exception('no') }}",
    "{{ x.y }}",
    "{{ 1 / 0 }}",
    "{{ 'a' + 1 }}",
    "{{ [1][3] }}",
    "{{ messages[0].nothing }}{{ messages[0]['nothing'] }}",
    "{{ x.y.z }}",
    "{% for x in 3 %}{% endfor %}",
    "{{ {}.a.b }}",
]

# What qlora's interpreter lacks, and has to say so.
REFUSED = [
    "{% macro f(a) %}{% endmacro %}{{ f.name }}",
    "{% include 'x' %}", "{% extends 'x' %}", "{% block x %}{% endblock %}",
    "{% import 'x' as y %}", "{% from 'x' import y %}", "{% autoescape true %}{% endautoescape %}",
    "{{ 1 | filesizeformat }}", "{{ [1] | pprint }}", "{{ [1] | random }}",
    "{{ 'a' | striptags }}", "{{ 'a' | urlize }}", "{{ 'a' | wordwrap }}",
    "{{ {'a': 1} | xmlattr }}", "{{ 'a' is escaped }}", "{{ 10 ** 20 }}", "{{ '%.3d' % 4 }}",
    "{{ 'a'.encode() }}", "{{ 'a'.translate({}) }}", "{{ 'a'.istitle() }}",
]


def make(options):
    cases = []
    for source in SOURCES:
        try:
            text = chat_template_utils._compile_jinja_template(source).render(**VALUES)
        except (TemplateError, TypeError, ZeroDivisionError, ValueError, AssertionError):
            text = None
        cases.append({"source": source, "text": text})
    common.write_json(options.output / "jinja" / "jinja.json", {**VALUES, "cases": cases,
                       "refused": REFUSED})

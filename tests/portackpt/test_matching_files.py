from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portackpt.errors import InputError, UsageError
from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.matching import Mapping, Rule
from portackpt.matching.files import parse, quote, read, spell

TEXT = """\
title = "mine"
source = "torch"
target = "flax"

[layers]
"h.{i}.ln_1" = { to = "params/h_{i}/ln_1", kind = "layer_norm" }
"fc" = { to = "params/fc", kind = "flatten_linear", shape = [64, 7, 7] }

[leaves]
"h.{i}.attn.c_attn.weight" = { to = "params/h_{i}/attn/qkv/kernel", kind = "linear" }
"head.weight" = { to = "params/head", axes = "out in -> in out" }
"temperature" = { to = "params/temperature" }

[only_source]
"h.{i}.attn.bias" = "the causal mask; the model makes it"
"lm_head.weight" = { tied = "wte.weight" }

[only_target]
"params/step" = "new in this program"
"""


def test_it_reads_what_a_person_writes() -> None:
    mapping = parse(TEXT)
    assert (mapping.source, mapping.target, mapping.title) == (Dialect.TORCH, Dialect.FLAX, "mine")
    assert mapping.rules[:3] == (
        Rule("h.{i}.ln_1", "params/h_{i}/ln_1", layer=True, kind=Kind.LAYER_NORM),
        Rule("fc", "params/fc", True, Kind.FLATTEN_LINEAR, options={"shape": (64, 7, 7)}),
        Rule("h.{i}.attn.c_attn.weight", "params/h_{i}/attn/qkv/kernel", kind=Kind.LINEAR),
    )
    assert mapping.rules[5:] == (
        Rule("h.{i}.attn.bias", None, reason="the causal mask; the model makes it"),
        Rule("lm_head.weight", None, tied_source="wte.weight"),
        Rule(None, "params/step", reason="new in this program"),
    )


def test_it_writes_what_it_read() -> None:
    assert spell(parse(TEXT)) == TEXT


def test_it_reads_a_bare_name_as_the_target() -> None:
    text = 'source = "torch"\ntarget = "torch"\n[leaves]\n"a" = "b"\n'
    assert parse(text).rules == (Rule("a", "b"),)


def test_it_writes_confidences_as_remarks() -> None:
    rule = Rule("a", "b", True, Kind.LINEAR, confidence=0.5, evidence="by\norder")
    mapping = Mapping(Dialect.TORCH, Dialect.FLAX, (rule,), remarks=("nothing found for c",))
    text = spell(mapping)
    assert '"a" = { to = "b", kind = "linear" }  # 0.50 by order\n\n# nothing found for c\n' in text
    assert parse(text).rules == (Rule("a", "b", True, Kind.LINEAR),)


def test_it_inverts() -> None:
    mapping = parse(TEXT)
    back = mapping.inverse()
    assert (back.source, back.target) == (Dialect.FLAX, Dialect.TORCH)
    assert back.inverse() == mapping
    text = spell(back)
    assert '"params/head" = { to = "head.weight", axes = "in out -> out in" }' in text
    assert '"lm_head.weight" = { tied = "wte.weight" }' in text.partition("[only_target]")[2]
    assert spell(parse(text)) == text


@given(st.text())
def test_it_quotes_any_name(name: str) -> None:
    if any(0xD800 <= ord(c) < 0xE000 for c in name):
        return
    text = f'source = "torch"\ntarget = "torch"\n[only_source]\n{quote(name)} = "why"\n'
    try:
        found = parse(text)
    except UsageError:  # a pattern that cannot be read
        assert "{" in name
    else:
        assert found.rules == (Rule(name, None, reason="why"),)


HEAD = 'source = "torch"\ntarget = "flax"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source = ", "this is not TOML: Invalid value (at end of document)"),
        (
            'source = "jax"\n',
            "source has to be one of torch, flax, nnx, keras, keras-h5, keras-objects, found 'jax'",
        ),
        (
            HEAD + "[layer]\n",
            "unknown layer; known are source, target, title, layers, leaves, only_source, "
            "only_target",
        ),
        (HEAD + "layers = 3\n", "expected a table [layers], found 3"),
        (
            HEAD + '[layers]\na = { to = "b" }\n',
            "a layer needs its kind: one of plain, linear, linear_in_out, hf_conv1d, "
            "flatten_linear, conv1d, conv2d, conv3d, conv_transpose, conv_transpose_kernel, "
            "depthwise, embedding, layer_norm, rms_norm, group_norm, batch_norm, "
            "multihead_attention, lstm, gru, prelu, weight_norm, tied, at [layers] 'a'",
        ),
        (
            HEAD + '[leaves]\na = { kind = "linear" }\n',
            "expected { to = \"name\", … }, found {'kind': 'linear'}, at [leaves] 'a'",
        ),
        (
            HEAD + '[leaves]\na = { to = "b", axes = "a b" }\n',
            "expected axes like 'out in -> in out', found 'a b', at [leaves] 'a'",
        ),
        (
            HEAD + '[leaves]\na = { to = "b", head = -1 }\n',
            "head has to be a size, found -1, at [leaves] 'a'",
        ),
        (
            HEAD + '[leaves]\na = { to = "b", shape = 3 }\n',
            "shape has to be a list of sizes, found 3, at [leaves] 'a'",
        ),
        (
            HEAD + '[leaves]\n"a.{i}" = { to = "b" }\n',
            "'a.{i}' and 'b' do not capture the same: i is in one only, at [leaves] 'a.{i}'",
        ),
        (
            HEAD + "[only_source]\na = 3\n",
            "expected the reason, or { tied = \"name\" }, found 3, at [only_source] 'a'",
        ),
        (
            HEAD + '[leaves]\na = { to = "b", kind = 3 }\n',
            "unknown kind 3; known are plain, linear, ",
        ),
    ],
)
def test_it_says_where_and_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_it_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"a mapping file is UTF-8 text, at .*map.toml"):
        read(path)
    path.write_text("x = 1")
    with pytest.raises(UsageError, match=r"unknown x; .*, at .*map.toml"):
        read(path)
    with pytest.raises(InputError, match=r"cannot read: No such file or directory, at .*none.toml"):
        read(tmp_path / "none.toml")
    path.write_text(TEXT)
    assert read(path) == parse(TEXT)

"""What a model folder says about its tokenizer, as the content of one ``tokenizer.json``.

Old BERT checkpoints have only ``vocab.txt`` and a few switches in ``tokenizer_config.json``; the same content is made
from those. Where both exist and a BERT tokenizer's switches contradict ``tokenizer.json``, the switches hold, as they
do in transformers; a Turkish vocabulary that lower-cases goes before both (`duygu.data.turkish`). Nothing found here is
executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from duygu.data.corpus import REMOVED, SPACES
from duygu.data.turkish import with_turkish_letters
from duygu.errors import ModelError
from duygu.files import read_json, read_text

Json = dict[str, Any]  # the content of a JSON file whose keys the tokenizers library defines

FILE_LIMIT = 256 << 20  # bytes; a vocabulary of a million entries with its merges takes a quarter
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
ROLES = (*BERT, "bos_token", "eos_token")
SWITCHES = {  # of tokenizer_config.json, by field of the normaliser
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
CLEANING: list[Json] = [
    {"type": "Replace", "pattern": {"Regex": REMOVED}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": SPACES}, "content": " "},
    {"type": "NFC"},
]


def read_content(folder: Path) -> tuple[Json, dict[str, str], list[str], str]:
    """Content, special tokens by role, warnings, and the file that it comes from. Raises `ModelError`."""
    config = _read_optional(folder / "tokenizer_config.json")
    if config.get("auto_map"):
        problem = "auto_map: the tokenizer asks for code from the model folder, and duygu runs none"
        fix = "choose a model without it, or remove the key if tokenizer.json says all there is to say"
        raise ModelError(problem, f"{folder / 'tokenizer_config.json'}: auto_map", fix)
    roles = _read_roles({**_read_optional(folder / "special_tokens_map.json"), **config})
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if path.exists():
        content, warnings = read_json(path, FILE_LIMIT, ModelError), list[str]()
        if not isinstance(content.get("model"), dict):
            raise ModelError("it describes no tokenizer: model is missing", str(path), "take the file afresh")
        roles = {**_roles_within(content), **roles}
        warnings += _apply_switches(content, config)
        warnings += _frame(content, roles)
        return content, roles, warnings + _apply_letters(content), str(path)
    if vocabulary.exists():
        tokens = _read_vocabulary(vocabulary, {**BERT, **roles})
        content, roles, warnings = bert_content(tokens, config, roles)
        return content, roles, warnings + _apply_letters(content), str(vocabulary)
    problem = "the model has no tokenizer that can be read"
    raise ModelError(problem, str(folder), "give tokenizer.json, or vocab.txt with tokenizer_config.json")


def bert_content(
    tokens: Sequence[str], config: Mapping[str, object], roles: Mapping[str, str] | None = None
) -> tuple[Json, dict[str, str], list[str]]:
    """Content, special tokens and warnings of the WordPiece tokenizer with these entries, ids in their order."""
    roles = {**BERT, **(roles or {})}
    tokens = tokens or list(BERT.values())
    vocabulary = {token: number for number, token in enumerate(tokens)}
    config, warnings = _with_case(config, vocabulary.keys() - set(roles.values()))
    special = {token: vocabulary[token] for token in roles.values() if token in vocabulary}
    content: Json = {
        "version": "1.0",
        "added_tokens": [_added(token, number) for token, number in sorted(special.items(), key=lambda item: item[1])],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, **_switches(config)},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "post_processor": _template(roles, vocabulary),
        "model": {
            "type": "WordPiece",
            "unk_token": roles["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }
    return content, {role: token for role, token in roles.items() if token in vocabulary}, warnings


def open_content(content: Json, cleaning: bool) -> Tokenizer:
    """The library's tokenizer, which neither cuts nor pads, with the cleaning at the head of its normaliser or without.

    Whatever the library raises goes through.
    """
    steps = [*(CLEANING if cleaning else []), *_own_steps(content.get("normalizer"))]
    normalizer = {"type": "Sequence", "normalizers": steps} if steps else None
    return Tokenizer.from_str(json.dumps({**content, "normalizer": normalizer, "truncation": None, "padding": None}))


@contextmanager
def without_panic_talk() -> Generator[None]:
    """Keep off standard error what the library prints of itself when it panics; the exception says it in one line."""
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _own_steps(normalizer: object) -> list[Any]:
    """The steps of a normaliser, one by one, without the cleaning that a saved one begins with."""
    steps = _flat(normalizer)
    return steps[len(CLEANING) :] if steps[: len(CLEANING)] == CLEANING else steps


def _flat(normalizer: object) -> list[Any]:
    """What is no sequence of steps is taken as one, for the library to refuse."""
    waiting, steps = [normalizer], list[Any]()
    while waiting:
        step = waiting.pop()
        inside = cast(Json, step).get("normalizers") if isinstance(step, dict) else None
        if isinstance(inside, list):
            waiting += reversed(cast(list[object], inside))
        elif step is not None:
            steps.append(step)
    return steps


def _apply_letters(content: Json) -> list[str]:
    """Set the normaliser of a Turkish vocabulary, and say what that changes."""
    steps = _own_steps(content.get("normalizer"))
    if not all(isinstance(step, dict) for step in steps):
        return []
    steps, warnings = with_turkish_letters(steps, _entries(content["model"].get("vocab")))
    content["normalizer"] = {"type": "Sequence", "normalizers": steps} if steps else None
    return warnings


def _entries(vocabulary: object) -> list[str]:
    """The entries of a vocabulary: a table of ids, or a list of entries with their scores."""
    if isinstance(vocabulary, dict):
        return [str(entry) for entry in cast(Json, vocabulary)]
    pairs = cast(list[list[object]], vocabulary) if isinstance(vocabulary, list) else []
    return [str(pair[0]) for pair in pairs if type(pair) is list and pair]


def _read_optional(path: Path) -> Json:
    return read_json(path, FILE_LIMIT, ModelError) if path.exists() else {}


def _read_roles(config: Json) -> dict[str, str]:
    """Special tokens by role; a token is a string, or an object with its ``content``."""
    found = {role: config.get(role) for role in ROLES}
    tokens = {
        role: cast(Json, value).get("content") if isinstance(value, dict) else value for role, value in found.items()
    }
    return {role: token for role, token in tokens.items() if isinstance(token, str) and token}


def _roles_within(content: Json) -> dict[str, str]:
    """BERT's special tokens as far as the vocabulary has them, for a folder that names none."""
    known = content["model"].get("vocab")
    names = set(cast(Json, known)) if isinstance(known, dict) else set[str]()
    return {role: token for role, token in BERT.items() if token in names}


def _apply_switches(content: Json, config: Mapping[str, object]) -> list[str]:
    """Set the normaliser of a BERT tokenizer as ``tokenizer_config.json`` says, and warn where that changes it."""
    normalizer = content.get("normalizer")
    is_bert = str(config.get("tokenizer_class", "")).removesuffix("Fast") == "BertTokenizer"
    if not (is_bert and isinstance(normalizer, dict) and cast(Json, normalizer).get("type") == "BertNormalizer"):
        return []
    own = cast(Json, normalizer)
    wanted = {key: value for key, value in _switches(config).items() if SWITCHES[key] in config}
    changed = [SWITCHES[key] for key, value in wanted.items() if own.get(key) != value]
    content["normalizer"] = {**own, **wanted}
    return [f"tokenizer.json contradicts tokenizer_config.json on {name}; the latter holds" for name in changed]


def _frame(content: Json, roles: Mapping[str, str]) -> list[str]:
    """Give a tokenizer that has [CLS] and [SEP] but never sets them the frame that BERT needs."""
    known = content["model"].get("vocab")
    ends = (roles.get("cls_token"), roles.get("sep_token"))
    if content.get("post_processor") or not isinstance(known, dict) or not all(end in known for end in ends):
        return []
    content["post_processor"] = _template(roles, cast(dict[str, int], known))
    return [f"tokenizer.json puts no {ends[0]} and {ends[1]} around a text; duygu does, as BERT models expect"]


def _template(roles: Mapping[str, str], vocabulary: Mapping[str, int]) -> Json:
    first, last = roles["cls_token"], roles["sep_token"]

    def piece(token: str, kind: int) -> Json:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def text(name: str, kind: int) -> Json:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [piece(first, 0), text("A", 0), piece(last, 0)]
    tokens = {token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in (first, last)}
    pair = [*single, text("B", 1), piece(last, 1)]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def _added(token: str, number: int) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, **flags, "special": True}


def _switches(config: Mapping[str, object]) -> Json:
    defaults: Json = {"lowercase": True, "strip_accents": None, "handle_chinese_chars": True}
    return {key: config.get(SWITCHES[key], default) for key, default in defaults.items()}


def _with_case(config: Mapping[str, object], tokens: set[str]) -> tuple[Mapping[str, object], list[str]]:
    """``config`` with ``do_lower_case``, taken from the vocabulary where nothing else says it."""
    if isinstance(config.get("do_lower_case"), bool):
        return config, []
    lower = not any(token != token.lower() for token in tokens)
    case = "no upper-case letters: texts are lower-cased" if lower else "upper-case letters: case is kept"
    warning = f"no tokenizer_config.json says do_lower_case; vocab.txt has {case}"
    return {**config, "do_lower_case": lower}, [warning]


def _read_vocabulary(path: Path, roles: Mapping[str, str]) -> list[str]:
    """One entry a line, ids in the order of the lines."""
    lines = read_text(path, FILE_LIMIT, ModelError).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    tokens = lines[:-1] if lines[-1] == "" else lines
    missing = [
        token
        for role, token in roles.items()
        if role in ("unk_token", "cls_token", "sep_token") and token not in tokens
    ]
    if missing:
        fix = "give the vocab.txt of a BERT model, one entry a line"
        raise ModelError(f"the vocabulary lacks {', '.join(missing)}", str(path), fix)
    return tokens

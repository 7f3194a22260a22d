"""Reading a learner's own data, whatever form it has, into one table of plain Python values; nothing is executed."""

from __future__ import annotations

import codecs
import difflib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ftkit.data import arrow
from ftkit.data.lazy import of_column, through
from ftkit.display import size
from ftkit.findings import Finding, FtkitError

#: Larger files would not fit beside a model into the memory of a small machine.
MAX_BYTES = 500_000_000
#: Larger Parquet and Arrow files stay on disk unless asked otherwise: in memory their texts take several times as much.
STREAM_BYTES = 50_000_000
_SUFFIXES = ".csv, .tsv, .json, .jsonl, .ndjson, .xlsx, .parquet or .arrow"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
#: Encodings that office programs write; among more of them, a guess from a short text is often exotic and wrong.
_CODE_PAGES = "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 shift_jis gb18030 big5 cp949 euc_jp".split()
_CENTRAL_EUROPEAN = {"Polish", "Czech", "Slovak", "Hungarian", "Croatian", "Slovene", "Romanian"}
#: How others name the splits of a DatasetDict.
_SPLIT_NAMES = dict(train="train", training="train", test="test", valid="valid", validation="valid")
_SPLIT_NAMES |= dict(val="valid", dev="valid")


def read(source: Any, stream: bool | None = None) -> tuple[Any, np.ndarray, bool, str, list[Finding]]:
    """Return a DataFrame or Dataset, the split of each row, whether its texts stay on disk, its name, and findings.

    Splits are places in (train, valid, test); rows that come with none are all of train.

    Parameters
    ----------
    source : str, Path, DataFrame, list of (text, label) pairs, datasets.Dataset or DatasetDict
        What `load_data` was given.
    stream : bool, optional
        Whether the texts stay on disk; None: if it is Parquet, Arrow or a Dataset of more than `STREAM_BYTES`.

    Raises
    ------
    FtkitError
        FT001 no such file, FT002 empty, FT003 unknown form, FT007 malformed, FT026 too large, FT044 not for the disk.
    """
    findings, n_bytes, where = [], 0, f"the {type(source).__name__}"
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        where, paths = path.name, arrow.find(path)
        n_bytes = sum(p.stat().st_size for p in paths or [path] if p.is_file())
        if n_bytes > MAX_BYTES and (stream is False or not paths):
            todo = "save it as Parquet, which can stay on disk, or take a sample of its rows."
            raise FtkitError("FT026", f"{where} has {size(n_bytes)}, expected at most {size(MAX_BYTES)}; {todo}")
        mapped = paths and (stream or n_bytes > STREAM_BYTES or path.suffix.casefold() != ".parquet")
        source, findings = _of_files(paths, where) if mapped else _read_file(path)
    tables = source if isinstance(source, dict) else {"train": source}
    if tables and all(hasattr(table, "features") for table in tables.values()):
        n_bytes = n_bytes or sum(table.data.nbytes for table in tables.values())
        if on_disk := n_bytes > STREAM_BYTES if stream is None else stream:
            told = f"{where} has {size(n_bytes)}; its texts are read from disk as they are needed."
            findings.append(Finding(code="FT045", message=told))
        return *_joined(tables, where), on_disk, where, findings
    if stream:
        told = "stream=True is for Parquet and Arrow files, for folders of them and for Datasets"
        raise FtkitError("FT044", f"{told}; save {where} as Parquet, or leave stream out.")
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        source = _from_pairs(source)
    if not isinstance(source, pd.DataFrame):
        told = f"A {type(source).__name__} is not a form of data that can be read; give a path, a DataFrame"
        raise FtkitError("FT003", f"{told}, a list of (text, label) pairs, or a datasets.Dataset or DatasetDict.")
    return source, np.zeros(len(source), dtype=np.int64), False, where, findings


def cells(table: Any, at: int, *, on_disk: bool) -> Sequence[Any]:
    """Return the cells of the column at a position of a DataFrame or Dataset; a `Lazy` if they stay on disk."""
    if isinstance(table, pd.DataFrame):
        return table.iloc[:, at].tolist()
    name = table.column_names[at]
    values, feature = of_column(table.with_format(None)[name]), table.features[name]
    if hasattr(feature, "int2str"):  # a ClassLabel: numbers in the table, names in the schema; -1 is "no label"
        values = through(values, lambda v, _: None if v is None or v < 0 else feature.int2str(int(v)))
    return values if on_disk else list(values)


def decode(raw: bytes, where: str) -> tuple[str, list[Finding]]:
    """Return bytes as text, and a finding unless they were plain UTF-8.

    >>> decode("Müller".encode("cp1252"), "names.csv")[0]
    'Müller'
    """
    for encoding in _encodings(raw):
        try:
            text = raw.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        what = "starts with a byte-order mark" if encoding == "utf-8-sig" else f"is not UTF-8 but {encoding}"
        told = Finding(code="FT004", message=f"{where} {what}; it was read as {encoding}.")
        return text, [] if encoding == "utf-8" else [told]
    raise FtkitError("FT004", f"{where} is not text in any encoding that could be recognised; save it as UTF-8.")


def _encodings(raw: bytes) -> Iterator[str]:
    """Yield encodings to try, the most certain first; only what is not UTF-8 takes the time of a guess."""
    if marked := [name for mark, name in _MARKS.items() if raw.startswith(mark)]:
        yield marked[0]
        return
    yield "utf-8"
    from charset_normalizer import from_bytes

    start, wide = raw[:200_000], b"\0" in raw
    best = from_bytes(start, cp_isolation=["utf_16_le", "utf_16_be"] if wide else _CODE_PAGES).best()
    # Western texts fit several code pages, and a few bytes fit anything; spreadsheets write Windows-1252.
    few = sum(byte > 127 for byte in start) < 0.05 * len(start)
    western = best is None or few or "cp1252" in best.could_be_from_charset
    if not wide and (western or (best.encoding == "cp1250" and best.language not in _CENTRAL_EUROPEAN)):
        yield "cp1252"
    if best:
        yield best.encoding


def _read_file(path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    where, suffix = path.name, path.suffix.casefold()
    if path.is_dir():
        told = f"{where!r} is a folder without Parquet or Arrow files"
        raise FtkitError("FT003", f"{told}; name one file in it, such as {where}/data.csv.")
    if not path.is_file():
        nearby = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(where, nearby, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the folder looked into was {path.parent.resolve().name!r}."
        raise FtkitError("FT001", f"There is no file named {str(path)!r}; {hint}")
    if path.stat().st_size == 0:
        raise FtkitError("FT002", f"{where} is empty: expected a header and rows, found 0 bytes.")
    if suffix in (".parquet", ".xlsx", ".xlsm"):
        with arrow.readable(path):
            return (pd.read_parquet(path), []) if suffix == ".parquet" else _read_excel(path)
    if suffix not in (".csv", ".tsv", ".json", ".jsonl", ".ndjson"):
        raise FtkitError("FT003", f"{where} ends in {suffix or 'nothing'!r}; expected {_SUFFIXES}; convert it to one.")
    text, findings = decode(path.read_bytes(), where)
    if not text.strip("\ufeff\0 \t\r\n"):
        raise FtkitError("FT002", f"{where} is empty: expected a header and rows, found nothing but white space.")
    if suffix not in (".csv", ".tsv"):
        return _read_json(text, where, lines=suffix != ".json"), findings
    separator, header = "\t", text.lstrip().partition("\n")[0]
    if suffix == ".csv" and (separator := max(",;\t|", key=header.count)) != ",":
        told = f"{where} separates its columns with {separator!r}, not a comma."
        findings.append(Finding(code="FT005", message=told))
    try:
        # Read without a header, or pandas would rename a second column of the same name in silence.
        frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        told = f"{where} cannot be read as a table: {arrow.brief(error)}; a text that holds {separator!r}"
        raise FtkitError("FT007", f"{told}, a quote or a line break must stand in double quotes.") from error
    return _with_header(frame), findings


def _with_header(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:  # an empty sheet
        return frame
    return frame.iloc[1:].reset_index(drop=True).set_axis([str(name) for name in frame.iloc[0]], axis=1)


def _read_excel(path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    with pd.ExcelFile(path, engine="openpyxl") as book:
        frame, sheets = pd.read_excel(book, header=None, dtype=object), book.sheet_names
    note = f"{path.name} has {len(sheets)} sheets; the first, {sheets[0]!r}, was read."
    return _with_header(frame), [Finding(code="FT005", message=note)] if len(sheets) > 1 else []


def _read_json(text: str, where: str, *, lines: bool) -> pd.DataFrame:
    content, text = [], text.lstrip("\ufeff")
    for at, value in enumerate(text.split("\n") if lines else [text]):
        try:
            if value.strip():
                content.append(json.loads(value))
        except (json.JSONDecodeError, RecursionError) as error:
            place = f"{where}, line {at + getattr(error, 'lineno', 1)}"
            raise FtkitError("FT007", f"{place}: not valid JSON ({arrow.brief(error)}); mend that line.") from error
    content = content if lines else content[0]
    if isinstance(content, dict) and len({len(v) if isinstance(v, list) else -1 for v in content.values()} - {-1}) == 1:
        columns = {k: v for k, v in content.items() if isinstance(v, list)}
        if len(columns) > 1:
            return pd.DataFrame(columns, dtype=object)
        content = next(iter(columns.values()))  # one list under a name, such as {"data": [...]}
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        told = 'does not hold a list of rows; expected objects such as {"text": "…", "label": "…"}, one a row.'
        raise FtkitError("FT007", f"{where} {told}")
    return pd.DataFrame.from_records(content).astype(object)


def _from_pairs(pairs: Sequence[Any]) -> pd.DataFrame:
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            told = f"Row {number} of the list should be a (text, label) pair; found {str(pair)[:60]!r}."
            raise FtkitError("FT007", told)
    return pd.DataFrame({"text": [p[0] for p in pairs], "label": [p[1] for p in pairs]}, dtype=object)


def _joined(source: Mapping[str, Any], where: str) -> tuple[Any, np.ndarray]:
    """Return Datasets of several splits as one, and the split of each row."""
    from datasets import concatenate_datasets

    names = [_SPLIT_NAMES.get(str(key).casefold()) for key in source]
    if other := [key for i, (key, name) in enumerate(zip(source, names, strict=True)) if name in (None, *names[:i])]:
        known = f"expected one each of {', '.join(_SPLIT_NAMES)}; remove or rename it."
        raise FtkitError("FT003", f"{where} has a split {other[0]!r}; {known}")
    if "train" not in names:
        raise FtkitError("FT003", f"{where} has the splits {', '.join(source)}; it needs one named 'train'.")
    given = np.repeat([("train", "valid", "test").index(name) for name in names], list(map(len, source.values())))
    return concatenate_datasets(list(source.values())), given


def _of_files(paths: Sequence[Path], where: str) -> tuple[dict[str, Any], list[Finding]]:
    """Return Parquet or Arrow files as Datasets: by split, if all of several are named like `train-00000-of-00002`."""
    names = [re.split(r"[^a-z]", p.stem.casefold())[0] for p in paths]
    named = len(paths) > 1 and "train" in names and set(names) <= set(_SPLIT_NAMES)
    names = names if named else ["train"] * len(paths)
    tables = {name: arrow.mapped([p for p, n in zip(paths, names, strict=True) if n == name]) for name in set(names)}
    told = f"{where}: took {len(paths)} files as {'splits, by their names' if named else 'one table'}."
    return tables, [Finding(code="FT005", message=told)] if len(paths) > 1 else []

"""Reading a learner's own data, whatever form it has, into a table, in memory or on disk; nothing is executed."""

import codecs
import contextlib
import io
import json
import mmap
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import ipc, parquet

from ftkit.data.repair import did_you_mean
from ftkit.display import size
from ftkit.findings import Finding, FtkitError
from ftkit.sources import cache_root

#: Larger files would not fit beside a model into the memory of a small machine; Parquet and Arrow stay on disk.
MAX_BYTES = 500_000_000
_ON_DISK = (".parquet", ".arrow")
_SUFFIXES = ".csv, .tsv, .json, .jsonl, .ndjson, .xlsx, .parquet or .arrow"
#: Encodings that office programs write; among more of them, a guess from a short text is often exotic and wrong.
_CODE_PAGES = "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 shift_jis gb18030 big5 cp949 euc_jp".split()
_CENTRAL_EUROPEAN = {"Polish", "Czech", "Slovak", "Hungarian", "Croatian", "Slovene", "Romanian"}
#: How others name the splits of a DatasetDict.
_NAMES = dict(train="train", training="train", valid="valid", validation="valid", val="valid", dev="valid", test="test")


def read(source: Any) -> tuple[dict[str, pd.DataFrame], str, list[Finding]]:
    """Return the tables of `source` by split (`"train"` if it has none), what to call it, and what was noticed.

    Parameters
    ----------
    source : str, Path, DataFrame, list of (text, label) pairs, datasets.Dataset or DatasetDict
        What `load_data` was given.

    Raises
    ------
    FtkitError
        FT001 no such file, FT002 empty, FT003 unknown form, FT007 malformed, FT026 too large.
    """
    if isinstance(source, str | Path):
        frame, findings = _read_file(Path(source).expanduser())
        return {"train": frame}, Path(source).name, findings
    if isinstance(source, pd.DataFrame):
        return {"train": source.reset_index(drop=True)}, "the DataFrame", []
    parts = source if isinstance(source, dict) else {"train": source}
    if parts and all(hasattr(part, "to_pandas") and hasattr(part, "features") for part in parts.values()):
        return _from_datasets(parts), "the DatasetDict" if isinstance(source, dict) else "the Dataset", []
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return {"train": _from_pairs(source)}, "the list", []
    hint = "give a path, a DataFrame, a list of (text, label) pairs, or a datasets.Dataset or DatasetDict."
    raise FtkitError("FT003", f"A {type(source).__name__} is not a form of data that can be read; {hint}")


def decode(raw: bytes, where: str) -> tuple[str, list[Finding]]:
    """Return bytes as text, and a finding unless they were plain UTF-8.

    >>> decode("Müller".encode("cp1252"), "names.csv")[0]
    'Müller'
    """
    for encoding in _encodings(raw):
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            text = raw.decode(encoding)
            what = "starts with a byte-order mark" if encoding == "utf-8-sig" else f"is not UTF-8 but {encoding}"
            told = Finding(code="FT004", message=f"{where} {what}; it was read as {encoding}.")
            return text, [] if encoding == "utf-8" else [told]
    raise FtkitError("FT004", f"{where} is not text in any encoding that could be recognised; save it as UTF-8.")


def _encodings(raw: bytes) -> Iterator[str]:
    """Yield encodings to try, the most certain first; only what is not UTF-8 takes the time of a guess."""
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    yield "utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else "utf-16" if marked else "utf-8"
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
        raise FtkitError("FT003", f"{where!r} is a folder; name one file in it, such as {where}/data.csv.")
    if not path.is_file():
        nearby = [p.name for p in path.parent.glob("*") if p.is_file()]
        hint = did_you_mean(where, nearby, f"the folder looked into was {path.parent.resolve().name!r}.")
        raise FtkitError("FT001", f"There is no file named {str(path)!r}; {hint}")
    if (n_bytes := path.stat().st_size) > MAX_BYTES and suffix not in _ON_DISK:
        hint = "take a sample of its rows, or save it as Parquet."
        raise FtkitError("FT026", f"{where} has {size(n_bytes)}, expected at most {size(MAX_BYTES)}; {hint}")
    if n_bytes == 0:
        raise FtkitError("FT002", f"{where} is empty: expected a header and rows, found 0 bytes.")
    try:
        if suffix in _ON_DISK:
            return _mapped(path), []
        if suffix in (".xlsx", ".xlsm"):
            return _read_excel(path)
    except Exception as error:  # the readers of these formats raise dozens of kinds for a file that is not theirs
        if getattr(error, "errno", None):  # no fault of the file: no room, or no right to write
            raise
        told = f"{where} cannot be read as {suffix[1:]}: {_brief(error)}; save it anew, or as CSV."
        raise FtkitError("FT007", told) from error
    if suffix not in (".csv", ".tsv", ".json", ".jsonl", ".ndjson"):
        raise FtkitError("FT003", f"{where} ends in {suffix or 'nothing'!r}; expected {_SUFFIXES}; convert it to one.")
    text, findings = decode(path.read_bytes(), where)
    if not text.strip("\ufeff\0 \t\r\n"):
        raise FtkitError("FT002", f"{where} is empty: expected a header and rows, found nothing but white space.")
    if suffix not in (".csv", ".tsv"):
        return _read_json(text, where, lines=suffix != ".json"), findings
    separator, header = "\t", text.lstrip().partition("\n")[0]
    if suffix == ".csv" and (separator := max(",;\t|", key=header.count)) != ",":
        findings.append(Finding(code="FT005", message=f"{where} separates columns with {separator!r}, not a comma."))
    try:
        # Read without a header, or pandas would rename a second column of the same name in silence.
        frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        hint = f"a text that holds {separator!r}, a quote or a line break must stand in double quotes."
        raise FtkitError("FT007", f"{where} cannot be read as a table: {_brief(error)}; {hint}") from error
    return _with_header(frame), findings


def _mapped(path: Path) -> pd.DataFrame:
    """Return a Parquet or Arrow file as a table that is read from disk as needed; Parquet from a copy, unpacked."""
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        if path.suffix.casefold() == ".parquet":
            # Few rows at a time: a row group has up to a million.
            packed = opened.enter_context(parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16))
            cache_root().mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(tempfile.TemporaryFile(dir=cache_root()))  # gone when nothing maps it
            with ipc.new_stream(file, packed.schema_arrow) as copy:
                for batch in packed.iter_batches(1_000, use_threads=False):
                    copy.write_batch(batch)
            file.flush()
        mapped = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        is_file = mapped[:6].to_pybytes() == b"ARROW1"  # the other form is a stream, as `datasets` writes it
        table = (ipc.open_file if is_file else ipc.open_stream)(mapped).read_all()
    table.validate(full=True)  # that texts are UTF-8, above all
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def _with_header(frame: pd.DataFrame) -> pd.DataFrame:
    names = [str(name) for name in frame.iloc[:1].to_numpy().ravel()]  # none, of an empty sheet
    return frame.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)


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
            raise FtkitError("FT007", f"{place}: not valid JSON ({_brief(error)}); mend that line.") from error
    content = content if lines else content[0]
    if isinstance(content, dict) and len({len(v) if isinstance(v, list) else -1 for v in content.values()} - {-1}) == 1:
        columns = {k: v for k, v in content.items() if isinstance(v, list)}
        if len(columns) > 1:
            return pd.DataFrame(columns, dtype=object)
        content = next(iter(columns.values()))  # one list under a name, such as {"data": [...]}
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise FtkitError("FT007", f'{where} should hold a list of rows, such as [{{"text": "…", "label": "…"}}, …].')
    return pd.DataFrame.from_records(content).astype(object)


def _brief(error: Exception) -> str:
    first_line = (str(error) or type(error).__name__).strip().splitlines()[0]
    return first_line.removeprefix("Error tokenizing data. C error: ")[:150]


def _from_pairs(pairs: Sequence[Any]) -> pd.DataFrame:
    for n, pair in enumerate(pairs, start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise FtkitError("FT007", f"Row {n} of the list should be a (text, label) pair; found {str(pair)[:60]!r}.")
    return pd.DataFrame({"text": [p[0] for p in pairs], "label": [p[1] for p in pairs]}, dtype=object)


def _from_datasets(source: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    tables: dict[str, pd.DataFrame] = {}
    for key, dataset in source.items():
        name = _NAMES.get(str(key).casefold())
        if name is None or name in tables:
            raise FtkitError("FT003", f"Expected one each of {', '.join(_NAMES)}; remove or rename the split {key!r}.")
        if stored := hasattr(dataset, "flatten_indices"):  # not a stream; what was chosen of it stays on disk, too
            dataset = dataset if dataset._indices is None else dataset.flatten_indices()
        table = dataset.with_format("arrow")[:].to_pandas(types_mapper=pd.ArrowDtype) if stored else dataset.to_pandas()
        for column, feature in dataset.features.items():
            if hasattr(feature, "int2str"):  # a ClassLabel: numbers in the table, names in the schema; -1 is "no label"
                table[column] = [feature.int2str(int(n)) if pd.notna(n) and n >= 0 else None for n in table[column]]
        tables[name] = table
    if "train" not in tables:
        raise FtkitError("FT003", f"The DatasetDict has the splits {', '.join(source)}; it needs one named 'train'.")
    return tables

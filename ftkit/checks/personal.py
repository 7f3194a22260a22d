"""Personal data in texts, before a model is shown them: what has a form can be found by it (lesson 10)."""

import re
from collections import Counter

import pandas as pd

from ftkit.data import Rows
from ftkit.display import Record, count
from ftkit.findings import Finding

_SHOWN = 3  # rows of each kind in a table


def _is_card(written: str) -> bool:
    """Whether the last digit is the check digit of the others (Luhn's rule, ISO/IEC 7812-1)."""
    digits = [int(c) for c in written if c.isdigit()][::-1]
    return (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0


def _is_account(written: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616)."""
    plain = "".join(written.split())
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


_ALONE = r"(?<![\w-])(?<!\d )"  # not a part of a longer number
#: What is looked for: its form, and what else must be true of it.
FORMS = {
    "e-mail address": (r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+", None),
    "card number": (rf"{_ALONE}\d(?:[ -]?\d){{12,18}}(?![\w-])", _is_card),
    "account number (IBAN)": (r"\b[A-Z]{2}\d\d(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b", _is_account),
    "telephone number": (
        rf"{_ALONE}(?:(?:\+|00?)\d[\d ()/-]{{6,17}}\d|\(?\d{{3}}\)?[ .-]\d{{3}}[ .-]\d{{4}})(?![\w-])",
        None,
    ),
    "name after a title": (r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Mme|Sra?)\.? (?:[A-Z]\. ?)*[A-Z][\w'’-]+", None),
}
_FORMS = {what: (re.compile(form), true) for what, (form, true) in FORMS.items()}


class Personal(Record):
    """Texts in which something has the form of personal data.

    Parameters
    ----------
    rows : Rows
        What was searched.
    hits : tuple of (str, int, str)
        What it looks like, the position of its row in `rows`, and how it begins: not all of it, as this is shown.
    """

    rows: Rows
    hits: tuple[tuple[str, int, str], ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """FT093, if there are any."""
        return (Finding(code="FT093", message=self.summary()),) if self.hits else ()

    def summary(self) -> str:
        kinds = Counter(what for what, _, _ in self.hits).most_common()
        told = f"in {count(len(self.rows))} texts nothing has the form of personal data"
        if kinds:
            n_rows, kinds = len({i for _, i, _ in self.hits}), ", ".join(f"{what} ({count(n)})" for what, n in kinds)
            told = f"{count(n_rows)} of {count(len(self.rows))} texts seem to hold personal data: {kinds}"
        return f"{self.rows.source or 'These rows'}: {told}."

    def frame(self) -> pd.DataFrame:
        """Return what was found: what it looks like, id of the row, and its first three characters."""
        found = [(what, self.rows.ids[i], begins) for what, i, begins in self.hits]
        return pd.DataFrame(found, columns=["What", "Id", "Begins with"])

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [("Some of them", self.frame().groupby("What").head(_SHOWN))] if self.hits else []


def personal_data(rows: Rows) -> Personal:
    """Look for personal data in texts, by form: e-mail addresses, card, account and telephone numbers, names.

    Numbers of cards and accounts are told by their check digits. Names are found after a title only, and addresses
    not at all: that nothing is found does not mean that nothing is there.

    Parameters
    ----------
    rows : Rows
        One split, or `data.joined()`.

    >>> rows = Rows(name="all", texts=["Ask Dr. Hale", "Pay 4111 1111 1111 1111"], labels=[0, 1], label_names="ab")
    >>> personal_data(rows).frame()["What"].tolist()
    ['name after a title', 'card number']
    """
    hits = []
    for i, text in enumerate(rows.texts):
        for what, (form, true) in _FORMS.items():
            found = next((m[0] for m in form.finditer(text) if not true or true(m[0])), None)
            if found:
                hits.append((what, i, f"{found[:3]}…"))
    return Personal(rows=rows, hits=tuple(hits))

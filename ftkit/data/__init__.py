"""Named sets and your own files into `Splits`: columns, repair, duplicates, leak-free splits."""

from ftkit.data.duplicates import NearDuplicates, near_duplicates
from ftkit.data.load import load_data
from ftkit.data.rows import Rows
from ftkit.data.sets import Card, data_sets
from ftkit.data.splits import Splits

__all__ = ["Card", "NearDuplicates", "Rows", "Splits", "data_sets", "load_data", "near_duplicates"]

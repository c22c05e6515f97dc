"""Every code a diagnostic can carry: what it means, why it is refused, a bad example and the same mended."""

from gridloom.compiler.codes.code import Code, Example, code_data, explain_code, find_code
from gridloom.compiler.codes.listing import CODES

__all__ = ["CODES", "Code", "Example", "code_data", "explain_code", "find_code"]

"""Files that are opened only if they are regular: a named pipe would be waited for, and a device read, for ever."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader


class NotAFileError(OSError):
    """Something else than a regular file: a named pipe, a device, a socket or a folder."""


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file to read bytes from it.

    Raises:
        NotAFileError: If it is something else; it is not waited for.
        OSError: If it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFileError(errno.EINVAL, 'no regular file', os.fspath(path))
        return os.fdopen(descriptor, 'rb')
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The contents of a regular file; raises as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | os.PathLike[str], errors: str = 'strict') -> str:
    """The text of a regular file in UTF-8; raises as :func:`open_regular`, and UnicodeDecodeError.

    Args:
        path: The file.
        errors: What becomes of bytes that are no UTF-8, as in :meth:`bytes.decode`.
    """
    return read_regular(path).decode('utf-8', errors)

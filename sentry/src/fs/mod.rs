//! File systems and file-like objects: one folder or file per kind.

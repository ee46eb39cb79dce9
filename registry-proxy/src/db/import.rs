//! Whole networks at once: hosts as a file has them, entered or changed.

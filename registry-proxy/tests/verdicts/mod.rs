//! Bytes and what is said of them: hostile mirrors, samples, probes, quarantine.

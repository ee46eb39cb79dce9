//! Entering, changing and showing mirrors, their sites and accounts, as an operator does.

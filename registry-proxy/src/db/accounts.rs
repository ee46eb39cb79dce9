//! Accounts: the people who look after sites.

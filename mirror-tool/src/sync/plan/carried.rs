//! Which of a list is carried, kept from planning for the list that is made of it.

/// Which of a list is carried.
#[derive(Debug, Default)]
pub(super) struct Carried {}

//! The mirror's own `state.json`: whether its copy of the tree has moved.

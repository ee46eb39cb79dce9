//! mirror_tool

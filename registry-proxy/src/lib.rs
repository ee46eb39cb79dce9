//! registry_proxy

//! How many connections one client has open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections counted by client: an IPv4 address, or the /64 network of an IPv6 address, since whoever
/// has one address of that has them all.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Crowd {
    /// Counts one more, unless the client has as many as `limit`.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, limit: usize) -> Option<Counted> {
        let client = network(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_default();
        if *count >= limit {
            if *count == 0 {
                open.remove(&client);
            }
            return None;
        }
        *count += 1;
        Some(Counted {
            crowd: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let open = self.crowd.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_counted_by_itself_and_forgotten() {
        let crowd = Arc::new(Crowd::default());
        let enter = |client: &str| crowd.enter(client.parse().unwrap(), 2);
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").unwrap();
        drop(first);
        let again = enter("192.0.2.1").unwrap();
        drop(again);
        let _network = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8:0:0:1::").is_none());
        assert!(enter("2001:db8:0:1::").is_some());
        assert_eq!(crowd.open.lock().unwrap().len(), 3);
    }
}

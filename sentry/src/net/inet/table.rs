//! What do `/proc/net/tcp`, `udp` and their sisters show? The sockets of the sandbox, as the host names them.

use std::sync::{Arc, Weak};

use linux_abi::net::{family, option as so};
use platform::host::socket as host;

use super::InetSocket;
use crate::net::{Kind, Namespace, lock};

/// The first line where no sockets follow.
pub const RAW_HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u8 = 7;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the files are")]
pub enum Table {
    Tcp,
    Tcp6,
    Udp,
    Udp6,
}

impl Table {
    fn holds(self, socket: &InetSocket) -> bool {
        let family = if matches!(self, Self::Tcp | Self::Udp) { family::AF_INET } else { family::AF_INET6 };
        let kind = if matches!(self, Self::Tcp | Self::Tcp6) { Kind::Stream } else { Kind::Datagram };
        socket.family == family && socket.kind == kind
    }
}

/// An address and port, as hexadecimal words in the host's order.
fn place(address: &[u8], family: u16) -> String {
    let (at, len) = if family == family::AF_INET { (4, 4) } else { (8, 16) };
    let bytes = address.get(at..at + len).map_or_else(|| vec![0; len], <[u8]>::to_vec);
    let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let port = address.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    format!("{}:{port:04X}", words.map(|word| format!("{word:08X}")).collect::<String>())
}

impl InetSocket {
    fn line(&self, at: usize) -> Option<String> {
        let local = host::local_name(&self.fd).ok()?;
        let peer = host::peer_name(&self.fd).ok();
        let state = if self.kind == Kind::Stream {
            host::get_option(&self.fd, so::SOL_TCP, so::TCP_INFO, 1).ok()?.first().copied()?
        } else if peer.is_some() {
            TCP_ESTABLISHED
        } else {
            TCP_CLOSE
        };
        // LINUX: a socket that is neither bound nor connected is in no table.
        let is_bound = local.get(2..4).is_some_and(|port| port != [0, 0]);
        let (local, peer) = (place(&local, self.family), place(&peer.unwrap_or_default(), self.family));
        is_bound.then(|| {
            format!(
                "{at:4}: {local} {peer} {state:02X} 00000000:00000000 00:00000000 00000000     0        0 0\n"
            )
        })
    }
}

impl Namespace {
    fn inet_sockets(&self) -> Vec<Arc<InetSocket>> {
        lock(&self.inet_sockets).iter().filter_map(Weak::upgrade).collect()
    }

    /// `/proc/net/tcp` and its sisters.
    #[must_use]
    pub fn proc_inet(&self, table: Table) -> String {
        let sockets = self.inet_sockets();
        let lines = sockets.iter().filter(|socket| table.holds(socket));
        let mut text = String::from(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
        );
        text.extend(lines.enumerate().filter_map(|(at, socket)| socket.line(at)));
        text
    }

    /// `/proc/net/sockstat`.
    #[must_use]
    pub fn proc_sockstat(&self) -> String {
        let sockets = self.inet_sockets();
        let count = |table: Table| sockets.iter().filter(|socket| table.holds(socket)).count();
        let (tcp, udp) = (count(Table::Tcp), count(Table::Udp));
        let all = self.socket_count();
        format!(
            "sockets: used {all}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\n\
             UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::net::new_socket;
    use crate::testing::task;

    use super::*;

    #[test]
    fn addresses_are_words_in_host_order() {
        assert_eq!(place(&[2, 0, 0x1f, 0x90, 127, 0, 0, 1], family::AF_INET), "0100007F:1F90");
        assert_eq!(place(&[], family::AF_INET6), "00000000000000000000000000000000:0000");
    }

    #[test]
    fn a_listening_socket_is_in_its_table() {
        let task = task();
        let ops = new_socket(&task, 2, 1, 0).unwrap();
        let socket = ops.as_socket().unwrap();
        let mut address = [0; 16];
        address[0] = 2;
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        assert_eq!(task.kernel.net.proc_inet(Table::Tcp).lines().count(), 1);
        socket.bind(&task, &address).unwrap();
        socket.listen(&task, 1).unwrap();
        let text = task.kernel.net.proc_inet(Table::Tcp);
        assert!(text.contains(" 0100007F:") && text.contains(" 00000000:0000 0A "), "{text}");
        assert_eq!(task.kernel.net.proc_inet(Table::Tcp6).lines().count(), 1);
    }
}
